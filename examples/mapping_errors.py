"""Raise the errors of your own domain instead of those of the libraries below."""

import asyncio

from resilience import map_errors


class DirectoryError(Exception):
    """Whatever goes wrong with the directory."""


class DirectoryUnavailableError(DirectoryError):
    """Try again later."""


class UserNotFoundError(DirectoryError):
    """There is no such user."""

    def __init__(self, login: str) -> None:
        super().__init__(f"no user {login!r}")
        self.login = login


def user_not_found(error: KeyError) -> UserNotFoundError:
    return UserNotFoundError(error.args[0])


# One policy for all functions of a module. The most specific match wins, whatever the order.
directory_errors = map_errors(
    {
        (OSError, EOFError): DirectoryUnavailableError,
        KeyError: user_not_found,
    },
    default=DirectoryError,
)


@directory_errors
async def get_user(login: str) -> str:
    if login == "bob":
        raise ConnectionResetError("reset by peer")
    if login == "":
        raise ValueError("the login is empty")
    return {"alice": "Alice"}[login]


async def main() -> None:
    print(await get_user("alice"))
    for login in ("bob", "eve", ""):
        try:
            await get_user(login)
        except DirectoryError as error:
            print(f"{type(error).__name__}: {error} (because of {error.__cause__!r})")


if __name__ == "__main__":
    asyncio.run(main())

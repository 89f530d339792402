"""`etude user` and `etude token`: who may sign in."""

import sys
from typing import Annotated, Literal

import typer

from app.ops.doors.shared import (
    DataDir,
    Email,
    Json,
    database_of,
    find_user,
    print_json,
    print_row,
    setup_address,
)

user_app = typer.Typer(help="People and programs that may sign in.", no_args_is_help=True)
token_app = typer.Typer(help="Tokens for programs (/v1).", no_args_is_help=True)


@user_app.command("add")
def user_add(
    email: Email,
    role: Annotated[
        Literal["admin", "lead", "member", "viewer"], typer.Option(help="What they may do")
    ] = "member",
    name: Annotated[str, typer.Option(help="Name that others see")] = "",
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read the password from standard input")
    ] = False,
    service: Annotated[
        bool, typer.Option("--service", help="A program's account: tokens, no password")
    ] = False,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Add an account. Without a password it prints a one-time link for the person."""
    password = sys.stdin.readline().rstrip("\r\n") if password_stdin else None
    with database_of(data_dir) as session:
        from app.core.models import Role
        from app.people import auth

        user = auth.create_user(
            session, None, email, Role(role), name=name, password=password, is_service=service
        )
        link = None if service or password is not None else auth.create_setup_link(session, user)
        session.commit()
    address = None if link is None else setup_address(link)
    if as_json:
        print_json({"email": user.email, "role": role, "link": address})
        return
    typer.echo(f"Added {user.email} as {role}.")
    if address is not None:
        typer.echo(f"Let them open {address} once, within {auth.LINK_HOURS} hours.")


@user_app.command("list")
def user_list(data_dir: DataDir = None, as_json: Json = False) -> None:
    """Show all accounts: people and programs, their role and department."""
    with database_of(data_dir) as session:
        from sqlalchemy import select

        from app.core.models import User

        people = [
            {
                "email": user.email,
                "name": user.name,
                "role": user.role.value,
                "department": user.department.name,
                "service": user.is_service,
                "closed": user.disabled_at is not None,
            }
            for user in session.scalars(select(User).order_by(User.email))
        ]
    if as_json:
        print_json(people)
        return
    for person in people:
        kind = "program" if person["service"] else "person"
        state = "closed" if person["closed"] else "open"
        print_row(
            person["email"], person["role"], kind, state, person["department"], person["name"]
        )


@user_app.command("reset")
def user_reset(email: Email, data_dir: DataDir = None, as_json: Json = False) -> None:
    """Print a one-time link with which a person sets a new password."""
    with database_of(data_dir) as session:
        from app.people import auth

        user = find_user(session, email)
        link = auth.create_setup_link(session, user)
        session.commit()
    if as_json:
        print_json({"email": user.email, "link": setup_address(link)})
    else:
        typer.echo(setup_address(link))


@token_app.command("create")
def token_create(
    email: Email,
    name: Annotated[str, typer.Option(help="Name, to tell tokens apart")] = "",
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Print a new API token, and nothing else, on standard output."""
    with database_of(data_dir) as session:
        from app.people import auth

        user = find_user(session, email)
        secret = auth.create_token(session, user, name)
        session.commit()
    if as_json:
        print_json({"email": user.email, "token": secret})
    else:
        typer.echo(secret)

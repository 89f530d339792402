"""People and how they come in: departments, accounts, sessions, tokens."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Identity, LargeBinary, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column, relationship

from app.core.models.base import Base, enum_of


class Role(StrEnum):
    ADMIN = "admin"
    LEAD = "lead"
    MEMBER = "member"
    VIEWER = "viewer"


class Department(Base):
    __tablename__ = "department"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    # Device-seconds that its jobs have had, fading by half each half-life, as of `used_at`
    # (app/jobs/scheduling.py); written by app/jobs/shares.py alone.
    used_seconds: Mapped[float] = mapped_column(default=0, server_default="0")
    used_at: Mapped[datetime] = mapped_column(server_default=func.now())


class User(Base):
    __tablename__ = "user_account"
    id: Mapped[int] = mapped_column(primary_key=True)
    department_id: Mapped[int] = mapped_column(ForeignKey("department.id"))
    email: Mapped[str] = mapped_column(unique=True)  # lower case
    name: Mapped[str] = mapped_column(default="", server_default="")
    role: Mapped[Role] = mapped_column(enum_of(Role))
    password_hash: Mapped[str | None]
    # A program's account: has tokens, never a password.
    is_service: Mapped[bool] = mapped_column(default=False, server_default=text("false"))
    disabled_at: Mapped[datetime | None]
    # Kinds of notices that also come by mail; none: every kind, until the person chooses.
    mail_kinds: Mapped[list[Any] | None] = mapped_column(JSONB(none_as_null=True))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    department: Mapped[Department] = relationship(lazy="joined")


class WebSession(Base):
    """A browser that is signed in; the cookie's value is stored hashed."""

    __tablename__ = "web_session"
    token_hash: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    # To name it on its owner's page, which must not show the hash.
    id: Mapped[int] = mapped_column(BigInteger, Identity(), unique=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("user_account.id", ondelete="CASCADE"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    # By a person, not by a page that asks again by itself; at most once a minute.
    last_used_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime]
    is_shared: Mapped[bool] = mapped_column(default=False, server_default=text("false"))
    browser: Mapped[str] = mapped_column(default="", server_default="")  # e.g. Firefox on Windows
    user: Mapped[User] = relationship(lazy="joined")


class ApiToken(Base):
    __tablename__ = "api_token"
    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("user_account.id", ondelete="CASCADE"))
    token_hash: Mapped[bytes] = mapped_column(LargeBinary, unique=True)
    prefix: Mapped[str]  # the first characters, to tell tokens apart
    name: Mapped[str] = mapped_column(default="", server_default="")
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    last_used_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    user: Mapped[User] = relationship(lazy="joined")


class SetupLink(Base):
    """A one-time link with which a person sets a password; the link's secret is stored hashed."""

    __tablename__ = "setup_link"
    token_hash: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    user_id: Mapped[int | None] = mapped_column(ForeignKey("user_account.id", ondelete="CASCADE"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime]
    used_at: Mapped[datetime | None]


class SignInFailure(Base):
    """A try at a password: written before it is looked at, removed if it was the right one."""

    __tablename__ = "sign_in_failure"
    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    email: Mapped[str] = mapped_column(index=True)
    address: Mapped[str] = mapped_column(index=True)
    # Whose tries are counted apart from strangers' (app/people/attempts.py); empty: a stranger's.
    lane: Mapped[str] = mapped_column(default="", server_default="")
    at: Mapped[datetime] = mapped_column(server_default=func.now())

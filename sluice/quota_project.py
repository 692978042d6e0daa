"""Credentials with a quota project, for REST APIs of Google."""

from google.auth.credentials import Credentials
from google.oauth2.credentials import Credentials as UserCredentials


def with_quota_project(credentials: Credentials, project: str) -> Credentials:
    """Return credentials with a quota project, to which requests are charged.

    Google's APIs reject requests of a person whose credentials name no project for quota and billing. Service accounts
    have a project of their own.

    Args:
        credentials: Application Default Credentials.
        project: The project to charge, unless the credentials name one.
    """
    if isinstance(credentials, UserCredentials) and credentials.quota_project_id is None:
        charged: Credentials = credentials.with_quota_project(project)
        return charged
    return credentials

"""Credentials for Google's REST APIs, beside those that the client libraries find by themselves."""

from google.auth.credentials import Credentials
from google.oauth2.credentials import Credentials as UserCredentials


def with_quota_project(credentials: Credentials, project: str) -> Credentials:
    """Return credentials whose requests are charged to a project.

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

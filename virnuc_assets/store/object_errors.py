"""What object stores answer when they do not do what was asked, in words for people.

Arrow gives what the stores' own libraries report as text alone.
"""

from __future__ import annotations

from virnuc_assets.errors import one_line

# What the libraries' reports have in them, by what it means.
_NO_BUCKET = ("NO_SUCH_BUCKET", "Bucket not found", "bucket does not exist")
_REFUSED = (
    "ACCESS_DENIED",
    "INVALID_ACCESS_KEY_ID",
    "SIGNATURE_DOES_NOT_MATCH",
    "EXPIRED_TOKEN",
    "INVALID_CLIENT_TOKEN_ID",
    "HTTP status 403",
    "HTTP status 401",
    "PERMISSION_DENIED",
    "UNAUTHENTICATED",
    "Could not create a OAuth2 access token",
)
_THROTTLED = ("SLOW_DOWN", "THROTTLING", "REQUEST_LIMIT", "HTTP status 503", "HTTP status 429")
_UNREACHABLE = ("NETWORK_CONNECTION", "UNAVAILABLE", "REQUEST_TIMEOUT", "INTERNAL", "HTTP status 5")


def may_pass(error: Exception) -> bool:
    """Whether a failure is one that goes away by itself."""
    return not _says(error, (*_REFUSED, *_NO_BUCKET)) and _says(error, _THROTTLED + _UNREACHABLE)


def explained(where: str, error: Exception) -> str:
    """What went wrong at the URL `where`, as a sentence that names the remedy."""
    s3, text = where.startswith("s3:"), one_line(error)
    if isinstance(error, FileNotFoundError):
        return f"{where}: no such object; make it again with the step that publishes it"
    if _says(error, _NO_BUCKET):
        return f"{where}: there is no such bucket; make it, or correct the URL ({text})"
    if _says(error, _REFUSED):
        settings = (
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (or AWS_PROFILE)"
            if s3
            else "GOOGLE_APPLICATION_CREDENTIALS"
        )
        return (
            f"{where}: the store refuses these credentials; set {settings} to some that may list, "
            f"read, write and delete there ({text})"
        )
    if _says(error, _THROTTLED):
        return (
            f"{where}: the store has been throttling for too long; start again with fewer workers, "
            f"what is published is kept ({text})"
        )
    if _says(error, _UNREACHABLE):
        settings = "AWS_ENDPOINT_URL" if s3 else "the network"
        return f"{where}: the store cannot be reached; check {settings}, then start again ({text})"
    return f"{where}: the store failed; start again, what is published is kept ({text})"


def _says(error: Exception, words: tuple[str, ...]) -> bool:
    return any(word in str(error) for word in words)

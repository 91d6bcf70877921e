"""A folder -> a repository of Hugging Face's hub, by its own library, with its tokens and mirrors."""

import re
from pathlib import Path

from mnv2_tasks.errors import ConfigError
from mnv2_tasks.wording import brief

NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def check_hub(to: str) -> None:
    """Raise a ConfigError where an upload cannot succeed: before anything is made."""
    if not NAME.fullmatch(to):
        raise ConfigError(
            f"to={to}: expected to=<owner>/<name>, you or an organisation of yours, and a name of a model"
        )
    try:
        from huggingface_hub import HfApi, get_token
    except ImportError as error:
        raise ConfigError(f'to={to}: needs huggingface_hub; pip install "mnv2-tasks[hub]"') from error
    if get_token() is None:
        raise ConfigError(f"to={to}: you are not logged in to the hub: hf auth login, or the variable HF_TOKEN")
    try:
        HfApi().whoami()
    except Exception as error:  # of its own, of its HTTP library and of the system, other ones in each release
        raise ConfigError(
            f"to={to}: the hub does not take your token, or cannot be reached ({_reason(error)}). "
            f"Look at the connection; hf auth login takes another token"
        ) from None


def upload(folder: Path, to: str, *, private: bool) -> str:
    """The address of what was uploaded.

    Args:
        private: nobody else sees a repository that is made; one that is there stays as it is.

    Raises:
        ConfigError: it broke off.
    """
    from huggingface_hub import HfApi

    try:
        api = HfApi()
        api.create_repo(to, private=private, exist_ok=True)
        return api.upload_folder(repo_id=to, folder_path=folder, commit_message="Upload by mnv2_tasks").commit_url
    except Exception as error:
        raise ConfigError(
            f"to={to}: {folder} is made, and could not be uploaded ({_reason(error)}). "
            f"Look at your rights there and at the connection, then: hf upload {to} {folder}"
        ) from None


def _reason(error: Exception) -> str:
    return brief(next((line for line in str(error).splitlines() if line.strip()), type(error).__name__))

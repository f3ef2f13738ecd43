"""MLflow's page tokens, whose form is not part of its interface.

The form is that of MLflow's own stores. A server with another one refuses the token, and the caller reads all pages instead.
"""

import base64
import json


def token_from(offset: int) -> str | None:
    """Return the token of the page of a search that begins after `offset` results; None for the first page."""
    return base64.b64encode(json.dumps({"offset": offset}).encode()).decode() if offset else None

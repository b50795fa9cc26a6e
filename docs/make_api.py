"""Write docs/api.md from the code: `make api`."""

from pathlib import Path

from vitmsn.ui.models import Models
from vitmsn.ui.page import build
from vitmsn.ui.shared import endpoints

if __name__ == "__main__":
    text = endpoints.page(build(Models()).page.get_api_info())
    Path(__file__).with_name("api.md").write_text(text, encoding="utf-8")

"""What MkDocs does not do by itself for this site.

- Papers at the root of the repository become pages of the section "Project".
- A link to one of them follows it; a link to any other file outside of docs/ becomes plain text.
- Mermaid comes from the cache of hack/site, so that no page loads anything from another host.
"""

import os
import pathlib
import re

from mkdocs.structure.files import File

ROOT = pathlib.Path(__file__).resolve().parents[3]
PAPERS = {
    "ROADMAP.md": "project/roadmap.md",
    "CHANGELOG.md": "project/changelog.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "SECURITY.md": "project/security.md",
    "SUPPORT.md": "project/support.md",
    "MAINTAINERS.md": "project/maintainers.md",
    "CODE_OF_CONDUCT.md": "project/code-of-conduct.md",
}
LINK = re.compile(r"\[([^\]]*)\]\(([^)#\s]+)(#[^)\s]*)?\)")


def on_files(files, config):
    for paper, page in PAPERS.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / paper)))
    mermaid = os.environ.get("MERMAID")
    if mermaid:
        files.append(File.generated(config, "assets/mermaid.min.js", abs_src_path=mermaid))
    return files


def on_page_markdown(markdown, page, config, files):
    """Rewrites the links that leave docs/."""
    shown = page.file.src_uri
    written = {new: old for old, new in PAPERS.items()}.get(shown, f"docs/{shown}")

    def rewritten(link):
        text, target, anchor = link.group(1), link.group(2), link.group(3) or ""
        if "://" in target or target.startswith("mailto:"):
            return link.group(0)
        path = os.path.normpath(os.path.join(os.path.dirname(written), target))
        if path == "README.md":
            path, anchor = "docs/README.md", ""
        if not path.startswith("docs/") and path not in PAPERS:
            return text
        # A page that is missing stays a link, which MkDocs then reports.
        page_of = PAPERS.get(path, path.removeprefix("docs/"))
        return f"[{text}]({os.path.relpath(page_of, os.path.dirname(shown) or '.')}{anchor})"

    # Code is left as it is.
    parts = re.split(r"(```.*?```|`[^`\n]*`)", markdown, flags=re.DOTALL)
    return "".join(part if part.startswith("`") else LINK.sub(rewritten, part) for part in parts)

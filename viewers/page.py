"""The page: one Gradio Blocks with a tab per room of work, styled as one application."""

from __future__ import annotations

from dataclasses import dataclass

import gradio as gr

from viewers import compare_tab, slide_tab, train_tab
from viewers.static_routes import static_base

_FONTS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica Neue", "Arial", "sans-serif")
_SHEETS = (
    "shell",
    "workspace",
    "panel",
    "result",
    "areas",
    "tools",
    "review",
    "labels",
    "account",
    "browse",
    "arriving",
    "narrow",
    "compare",
    "compare_parts",
    "train",
    "train_forms",
)
_MONO = ("ui-monospace", "Consolas", "monospace")


@dataclass(frozen=True)
class PageStyle:
    """Looks of the page; Gradio takes them where the page is mounted."""

    theme: gr.themes.Base
    head: str


def build_page() -> gr.Blocks:
    """The page with all tabs."""
    page: gr.Blocks = gr.Blocks(
        analytics_enabled=False, title="LPD · tissue segmentation", fill_width=True, fill_height=True
    )
    with page, gr.Tabs(elem_id="lpd-tabs"):
        slide_tab.build()
        compare_tab.build()
        train_tab.build()
    return page


def page_style() -> PageStyle:
    """System fonts only, named without files to load: the page asks nothing of any other server."""
    font, mono = ([gr.themes.Font(name) for name in names] for names in (_FONTS, _MONO))
    theme = gr.themes.Base(font=font, font_mono=mono)
    links = [f'<link rel="stylesheet" href="{static_base()}/{name}.css">' for name in _SHEETS]
    account = f'<script type="module" src="{static_base()}/account.js"></script>'
    return PageStyle(theme, "".join((*links, account)))

"""The Compare tab: one slide twice, two models' prototypes over it, moved together."""

from __future__ import annotations

import gradio as gr

from viewers.viewer_component import own_element


def build() -> None:
    """Add the tab to the open Gradio tabs; as in the Slides tab, all of it is one component of ours."""
    with gr.Tab("Compare", id="compare"):
        own_element("compare.js", "lpd-compare")

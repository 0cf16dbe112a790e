"""The Train tab: choose data, set, start, watch, compare, publish."""

from __future__ import annotations

import gradio as gr

from viewers.viewer_component import own_element


def build() -> None:
    """Add the tab to the open Gradio tabs; as in the other tabs, all of it is one component of ours."""
    with gr.Tab("Train", id="train"):
        own_element("train.js", "lpd-training")

"""The Slides tab: look at a slide, segment it, see the mask grow, take the result along."""

from __future__ import annotations

import gradio as gr

from viewers.viewer_component import own_element


def build() -> None:
    """Add the tab to the open Gradio tabs.

    All of it is one component: moving, colouring and toggling happen in the browser at once, and what changes state
    (start, cancel, a slide's resolution) goes through the same JSON routes that scripts can use. So nothing is lost
    with the browser tab, and no click waits in Gradio's queue behind another one.
    """
    with gr.Tab("Slides", id="slides"):
        own_element("main.js", "lpd-slides")

"""slide_workspace: a Gradio HTML element that our own module fills with slide list, viewer and controls."""

from __future__ import annotations

import json

import gradio as gr

from viewers.static_routes import openseadragon_url, static_base

# The template never changes, so that Gradio never touches what our module builds inside it.
_TEMPLATE = '<div class="lpd-workspace"><p class="lpd-loading">Loading …</p></div>'
_ON_LOAD = """
const base = new URL(%s, document.baseURI);
const root = element.querySelector('.lpd-workspace');
import(base + '/main.js')
  .then((module) => module.mount(root))
  .catch(() => { root.textContent = 'The page could not be loaded: reload it.'; });
"""


def slide_workspace() -> gr.HTML:
    """The element; its state lives in the browser and behind the JSON routes, never in Gradio.

    Not a subclass of ``gr.HTML``: Gradio writes a stub file beside every module that makes one.
    """
    return gr.HTML(
        value=None,
        html_template=_TEMPLATE,
        js_on_load=_ON_LOAD % json.dumps(static_base()),
        head=f'<script src="{openseadragon_url()}"></script>',
        apply_default_css=False,
        elem_id="lpd-slides",
    )

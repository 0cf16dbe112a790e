"""own_element: a Gradio HTML element that a module of ours fills; with it comes the viewer library."""

from __future__ import annotations

import json

import gradio as gr

from viewers.static_routes import openseadragon_url, static_base

# The template never changes, so that Gradio never touches what our module builds inside it.
_TEMPLATE = '<div class="lpd-workspace"><p class="lpd-loading">Loading …</p></div>'
_ON_LOAD = """
const base = new URL(%s, document.baseURI);
const root = element.querySelector('.lpd-workspace');
import(base + '/' + %s)
  .then((module) => module.mount(root))
  .catch(() => { root.textContent = 'The page could not be loaded: reload it.'; });
"""


def own_element(module: str, name: str) -> gr.HTML:
    """The element; its state lives in the browser and behind the JSON routes, never in Gradio.

    Not a subclass of ``gr.HTML``: Gradio writes a stub file beside every module that makes one.

    Args:
        module: file in ``static/`` with ``mount(root)``.
        name: id of the element in the page.
    """
    return gr.HTML(
        value=None,
        html_template=_TEMPLATE,
        js_on_load=_ON_LOAD % (json.dumps(static_base()), json.dumps(module)),
        head=f'<script src="{openseadragon_url()}"></script>',
        apply_default_css=False,
        elem_id=name,
    )

"""The log-in page: all it needs is in it, so that nothing else is shown to people without a name."""

from __future__ import annotations

from html import escape

from starlette.responses import HTMLResponse

_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'",
    "Referrer-Policy": "same-origin",
}
_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>LPD · log in</title>
<style>
  :root { color-scheme: light dark; --ink: #17222d; --soft: #566472; --line: #c3ccd4; --paper: #fff; --ground: #f3f5f7;
    --accent: #0b6b83; --on-accent: #fff; --red: #9d2328; }
  @media (prefers-color-scheme: dark) { :root { --ink: #e8edf1; --soft: #a5b2bd; --line: #465562; --paper: #1b252e;
    --ground: #11181f; --accent: #58b8cf; --on-accent: #06222a; --red: #ff9d9d; } }
  * { box-sizing: border-box; }
  body { margin: 0; min-height: 100vh; display: grid; place-items: center; padding: 16px; background: var(--ground);
    color: var(--ink); font: 16px/1.5 system-ui, -apple-system, 'Segoe UI', Roboto, Arial, sans-serif; }
  main { width: 100%%; max-width: 360px; padding: 28px; background: var(--paper); border: 1px solid var(--line);
    border-radius: 12px; }
  h1 { margin: 0; font-size: 20px; }
  p { margin: 4px 0 0; color: var(--soft); font-size: 14px; }
  label { display: block; margin-top: 16px; font-size: 14px; font-weight: 600; }
  input, button { width: 100%%; min-height: 44px; margin-top: 4px; padding: 8px 12px; border-radius: 8px;
    font: inherit; }
  input { border: 1px solid var(--line); background: var(--ground); color: var(--ink); }
  button { margin-top: 24px; border: 0; background: var(--accent); color: var(--on-accent); font-weight: 600;
    cursor: pointer; }
  :focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; }
  .wrong { margin-top: 16px; color: var(--red); }
</style>
<main>
  <h1>LPD · tissue segmentation</h1>
  <p>Log in to see slides and results.</p>
  <form method="post">
    %(problem)s
    <label for="name">Name</label>
    <input id="name" name="name" value="%(name)s" autocomplete="username" autocapitalize="none" spellcheck="false"
      maxlength="64" required%(focus_name)s%(described)s>
    <label for="password">Password</label>
    <input id="password" name="password" type="password" autocomplete="current-password" maxlength="1024"
      required%(focus_password)s%(described)s>
    <button type="submit">Log in</button>
  </form>
</main>
</html>
"""


def log_in_page(
    problem: str = "", name: str = "", status: int = 200, headers: dict[str, str] | None = None
) -> HTMLResponse:
    """The page, with what went wrong and the name that was typed, if so."""
    fields = {
        "problem": f'<p class="wrong" id="problem" role="alert">{escape(problem)}</p>' if problem else "",
        "described": ' aria-describedby="problem"' if problem else "",
        "name": escape(name[:64]),
        "focus_name": "" if name else " autofocus",
        "focus_password": " autofocus" if name else "",
    }
    return HTMLResponse(_PAGE % fields, status, {**_HEADERS, **(headers or {})})

"""LPD in the browser: ``python app.py``. Flags -> services -> mount -> serve."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent

if __name__ == "__main__":
    from viewers.bootstrap import ensure_installed

    ensure_installed("requirements.txt")

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when Gradio is imported

from lpd.errors import LpdError
from viewers import access, options


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Flags of the app; the folders default to those beside this file."""
    parser = argparse.ArgumentParser(prog="app.py", description="Look at whole slides and segment them in the browser.")
    parser.add_argument("--slides", type=Path, default=ROOT / "slides", help="folder of slides (default: slides/)")
    parser.add_argument(
        "--checkpoints", type=Path, default=ROOT / "checkpoints", help="folder of models (default: checkpoints/)"
    )
    parser.add_argument("--results", type=Path, default=ROOT / "results", help="folder for results (default: results/)")
    parser.add_argument("--data", type=Path, default=ROOT / "data", help="folder of tile sets (default: data/)")
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on; 0.0.0.0 lets others on the network in"
    )
    parser.add_argument("--port", type=int, help="port to listen on (default: the first free one from 7860 on)")
    options.add_flags(parser)
    access.add_flags(parser)
    parser.add_argument("--no-browser", action="store_true", help="do not open the browser")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the app until Ctrl-C; returns the exit code."""
    args = parse(argv)
    try:
        if args.add_user:
            _add_user(args)
        else:
            run(args)
    except LpdError as error:
        print(f"app.py: {error}", file=sys.stderr)
        return 1
    return 0


def run(args: argparse.Namespace) -> None:
    """Make the services, mount the page, serve it.

    Raises:
        LpdError: a folder is missing, the port is taken, or the viewer library is not there.
    """
    from viewers import demo, openseadragon, serving
    from viewers.services import make_services
    from viewers.web import make_app

    allowed, chosen = access.read_access(args), options.read_options(args)
    with serving.bind(args.host, args.port) as listening:
        if args.slides == ROOT / "slides" and demo.needs_demo(args.slides):
            print("No slides yet: making a demo slide, this takes a few seconds …", flush=True)
            _make_demo(args.slides)
        services = make_services(args.slides, args.checkpoints, args.results, openseadragon.ensure(), chosen, args.data)
        url = serving.url_of(args.host, listening)
        serving.serve(make_app(services, args.host, allowed), listening, lambda: _announce(args, url))


def _add_user(args: argparse.Namespace) -> None:
    from viewers import asking, users

    if args.auth is None:
        raise LpdError("--add-user needs a file to put the user into: name it with --auth FILE")
    new = users.add_user(args.auth, args.add_user, asking.new_password(args.add_user))
    print(f"{args.add_user} {'can log in now' if new else 'has a new password'}: {args.auth}")


def _make_demo(slides: Path) -> None:
    from viewers import demo

    try:
        demo.make_demo_slide(slides)
    except LpdError as error:
        print(f"app.py: {error}", file=sys.stderr)


def _announce(args: argparse.Namespace, url: str) -> None:
    from viewers import serving

    print(f"LPD is running at {url} – Ctrl-C ends it; running segmentations go on.", flush=True)
    if args.host not in ("127.0.0.1", "localhost", "::1"):
        if args.auth:
            print("Passwords and slides cross the network unencrypted unless a proxy with TLS is in front.", flush=True)
        elif not args.auth_proxy_header:
            print("Anyone who can reach this machine over the network can see the slides.", flush=True)
    if not args.no_browser:
        serving.open_browser(url)


if __name__ == "__main__":
    sys.exit(main())

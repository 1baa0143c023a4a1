"""`look` and `plan`: what a model makes of a picture before it computes anything. No weights are needed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from beholder.cli.names import DEFAULT
from beholder.cli.options import ModelName
from beholder.cli.output import Json, console, print_json
from beholder.errors import BeholderError

if TYPE_CHECKING:
    from rich.table import Table

    from beholder.media.plan import PicturePlan, View


def look(
    picture: Annotated[Path, typer.Argument(help="A picture file.")],
    model: ModelName = DEFAULT,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="PNG to write; default: NAME-seen.png here.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Draw what a model sees of a picture: its crops in their places, and how many tokens each takes."""
    from PIL import Image

    from beholder.cli.names import open_card
    from beholder.files import atomic_file
    from beholder.media.decode import decode
    from beholder.media.look import contact_sheet, title
    from beholder.planning import branch_plan, check_pictures, image_branches

    card = open_card(model)
    check_pictures(card, 1)
    branch = image_branches(card)[0]
    pixels_HWC = decode(picture)
    plan = branch_plan(card, branch, pixels_HWC.shape[:2])
    assert branch.geometry is not None
    target = out or Path(f"{picture.stem}-seen.png")
    if target.suffix.lower() != ".png":
        raise BeholderError(f"{target}: the drawing is a PNG; give --out a name that ends in .png")
    if target.is_dir() or (target.exists() and target.samefile(picture)):
        raise BeholderError(
            f"{target} is {'a folder' if target.is_dir() else 'the picture'}; choose another --out"
        )
    with atomic_file(target) as temporary:
        Image.fromarray(contact_sheet(pixels_HWC, plan, branch.geometry, card.name)).save(
            temporary, format="PNG"
        )
    if as_json:
        print_json({"model": card.name, "written": target, **picture_data(plan)})
    else:
        print(f"{card.name} sees {title(plan)}\nwrote {target}")


def plan(
    pictures: Annotated[list[Path], typer.Argument(metavar="PICTURE...", help="Picture files.")],
    model: ModelName = DEFAULT,
    as_json: Json = False,
) -> None:
    """Tell which crops a model takes of pictures, at which size, and how many tokens they become."""
    from beholder.cli.names import open_card
    from beholder.planning import plan as plan_pictures

    planned = plan_pictures(open_card(model), [str(picture) for picture in pictures])
    if as_json:
        rows = [
            {"picture": path, **picture_data(one)}
            for path, one in zip(pictures, planned.pictures, strict=True)
        ]
        print_json(
            {
                "model": planned.card,
                "pictures": rows,
                "image_tokens": planned.image_tokens,
                "context": planned.context,
            }
        )
        return
    for path, one in zip(pictures, planned.pictures, strict=True):
        height, width = one.original
        print(f"{path.name}, {width} x {height} pixels")
        console().print(_views_table(one))
    if len(planned.pictures) > 1:
        print(f"{planned.image_tokens:,} tokens of all pictures")


def _views_table(plan: PicturePlan) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("view", "shows", "scaled to"):
        table.add_column(heading, no_wrap=True)
    table.add_column("tokens", justify="right", no_wrap=True)
    for view, grid in zip(plan.views, plan.grids, strict=True):
        left, top, right, bottom = (round(edge) for edge in _part_of_original(view))
        seen = f"{view.size[1]} x {view.size[0]}"
        table.add_row(view.role, f"{left},{top} to {right},{bottom}", seen, f"{grid.num_tokens:,}")
    table.add_section()
    table.add_row("in the prompt", "", "", f"{plan.num_tokens:,}", style="bold")
    return table


def picture_data(plan: PicturePlan) -> dict[str, Any]:
    """A plan's sizes (height, width), views and counts. `box`: (left, top, right, bottom) of a view in pixels of the
    original, padding included.
    """
    views = [
        {
            "role": view.role,
            "size": view.size,
            "box": _part_of_original(view),
            "grid": grid,
            "tokens": grid.num_tokens,
        }
        for view, grid in zip(plan.views, plan.grids, strict=True)
    ]
    return {"branch": plan.branch, "original": plan.original, "tokens": plan.num_tokens, "views": views}


def _part_of_original(view: View) -> tuple[float, float, float, float]:
    return (*view.to_original(0, 0), *view.to_original(view.size[1], view.size[0]))

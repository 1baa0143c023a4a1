"""`embed`, `search` and `classify`: pictures and texts by their vectors."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from beholder.cli import options
from beholder.cli.ask import check_pictures, is_picture
from beholder.cli.names import complete_model
from beholder.cli.output import Json, console, note, plain, print_json, step_bars
from beholder.errors import BeholderError

if TYPE_CHECKING:
    from rich.table import Table

    from beholder.pipeline import Pipeline
    from beholder.search import Found
    from beholder.vectors import Item, Store

FORMATS = (".npy", ".json", ".jsonl")
PARTIAL = ".partial"  # beside the file that is made, until it is
DualEncoder = Annotated[
    str,
    typer.Option(
        "--model", "-m", help="A dual encoder: card, folder or hub id.", autocompletion=complete_model
    ),
]


def embed(
    pictures: Annotated[
        list[Path] | None,
        typer.Argument(metavar="PICTURE...", help="Picture files; with --out also folders of them."),
    ] = None,
    text: Annotated[list[str] | None, typer.Option("--text", "-t", help="A text; may be repeated.")] = None,
    mask: Annotated[
        list[Path] | None,
        typer.Option(help="Where to look: a picture, white there, of the same size; one for each PICTURE."),
    ] = None,
    texts: Annotated[Path | None, typer.Option(help="A file with a text on each line.")] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="Write the vectors: .npy with a .jsonl beside that names the rows, .json or .jsonl.",
        ),
    ] = None,
    model: DualEncoder = "mini-search",
    device: options.Device = "cpu",
    dtype: options.Dtype = None,
    adapter: options.Adapter = None,
    as_json: Json = False,
) -> None:
    """Compare pictures with texts: the system's own measure of likeness; with --json or --out also the vectors.

    What is written with --out goes on where it was stopped when the command is run again.
    """
    opening = (model, device, dtype, None, None, None, adapter)
    given, words = list(pictures or ()), [*(text or ()), *(lines_of(texts) if texts is not None else ())]
    if not given and not words:
        raise BeholderError("nothing to compare; give picture files, --text, or both")
    loose = next((path for path in given if not is_picture(str(path))), None)
    if loose is not None:
        raise BeholderError(f"{str(loose)!r} is no picture; a text goes after --text")
    if mask and out is not None:
        raise BeholderError("--mask and --out do not go together; print the vectors with --json")
    if out is not None:
        written = write_vectors(given, words, out, lambda: options.open_model(*opening))
        print_json(written) if as_json else print(
            f"wrote {written['written']} vectors of width {written['width']} to {out}"
        )
        return
    paths = [str(path) for path in given]
    sources = check_pictures(paths)
    masks = [each[..., 0] for each in check_pictures([str(path) for path in mask])] if mask else None
    found = options.open_model(*opening).embed(images=sources, texts=words, masks=masks)
    if as_json:
        print_json(
            {"model": model, "pictures": paths, "texts": words}
            | {"image_vectors": found.images, "text_vectors": found.texts, "scores": found.scores}
        )
    elif found.scores is None:
        vectors = [each for each in (found.images, found.texts) if each is not None]
        count = sum(map(len, vectors))
        print(f"{count} vector{'s'[: count != 1]} of width {vectors[0].shape[1]}; --json prints them")
    else:
        console().print(_scores(paths, words, found.scores))


def write_vectors(
    given: Sequence[Path], words: Sequence[str], out: Path, opened: Callable[[], Pipeline]
) -> dict[str, Any]:
    """Vectors of pictures (files, or all in folders) and texts in a file, rows in this order; those of pictures that
    cannot be read are left out and named on stderr. Gives what was written.
    """
    from beholder.vectors import Item, Store, fill, items_in, model_mark, picture_item

    if out.suffix not in FORMATS:
        raise BeholderError(
            f"--out {out} ends in none of {', '.join(FORMATS)}; its ending says how it is written"
        )
    if out.is_dir():
        raise BeholderError(f"--out {out} is a folder; name a file")
    pictures = [item for one in given for item in (items_in(one) if one.is_dir() else [picture_item(one)])]
    items = list(dict.fromkeys([*pictures, *(Item("text", word) for word in words)]))
    pipeline = opened()
    mark = model_mark(pipeline)
    partial = out.with_name(out.name + PARTIAL)
    store = Store.load(partial, mark)
    with step_bars() as progress:
        fill(store, items, pipeline, keep_in=partial, progress=progress)
    tell_skipped(store.skipped.values())
    rows = [item for item in items if item in store.vectors]
    if not rows:
        partial.unlink(missing_ok=True)
        raise BeholderError("none of the pictures can be read, so there is nothing to write")
    _write(out, rows, store)
    partial.unlink(missing_ok=True)
    skipped = {item.name: why for item, why in store.skipped.items()}
    width = int(store.vectors[rows[0]].shape[0])
    return {"model": mark, "out": out, "written": len(rows), "width": width, "skipped": skipped}


def _write(out: Path, rows: Sequence[Item], store: Store) -> None:
    import numpy as np

    from beholder.files import atomic_file, write_text_atomic

    table = store.table(rows)
    names = [{item.kind: item.name} for item in rows]
    if out.suffix == ".json":
        whole = {"model": store.model, "items": names, "vectors": plain(table)}
        write_text_atomic(out, json.dumps(whole) + "\n")
        return
    if out.suffix == ".jsonl":
        lines = [name | {"vector": vector} for name, vector in zip(names, plain(table), strict=True)]
    else:
        lines = [{"row": number, **name} for number, name in enumerate(names)]
        with atomic_file(out) as temporary, temporary.open("wb") as file:
            np.save(file, table)
    text = "".join(json.dumps(line) + "\n" for line in lines)
    write_text_atomic(out.with_suffix(".jsonl"), text)


def search(
    folder: Annotated[Path, typer.Argument(help="A folder of pictures; folders in it are searched too.")],
    query: Annotated[str, typer.Argument(help="What to look for, in words, or a picture file.")],
    model: DualEncoder = "mini-search",
    top: Annotated[int, typer.Option(min=1, help="So many pictures.")] = 12,
    sheet: Annotated[
        Path | None, typer.Option("--sheet", "-o", help="PNG to write: the pictures found.")
    ] = None,
    index: Annotated[
        Path | None, typer.Option(help="Keep the folder's vectors here; default: .beholder in the folder.")
    ] = None,
    device: options.Device = "cpu",
    dtype: options.Dtype = None,
    adapter: options.Adapter = None,
    as_json: Json = False,
) -> None:
    """Find pictures of a folder by words or by another picture.

    Vectors of the pictures are kept; later searches read only new and changed ones.
    """
    from beholder.search import search as find
    from beholder.vectors import pictures_in

    if sheet is not None and sheet.suffix.lower() != ".png":
        raise BeholderError(f"{sheet}: the sheet is a PNG; give --sheet a name that ends in .png")
    if not query.strip():
        raise BeholderError("the query is empty; say in words what to look for, or give a picture")
    pictures_in(folder)
    asked: Any = check_pictures([query])[0] if is_picture(query) else query
    pipeline = options.open_model(model, device, dtype, adapter=adapter)
    with step_bars() as progress:
        found = find(pipeline, folder, asked, top=top, index=index, progress=progress)
    tell_skipped(found.skipped.values())
    if found.index is None:
        note(
            f"{folder} cannot be written to, so the vectors were not kept; --index FILE keeps them elsewhere"
        )
    if sheet is not None:
        _draw(found, sheet, f"{query}: {len(found.hits)} of {found.pictures} pictures, {pipeline.card.name}")
    if as_json:
        print_json(
            {"model": pipeline.card.name, "folder": folder, "query": query, **vars(found), "sheet": sheet}
        )
        return
    console().print(_hits(found, folder))
    if sheet is not None:
        print(f"wrote {sheet}")


def classify(
    pictures: Annotated[list[Path], typer.Argument(metavar="PICTURE...", help="Picture files.")],
    label: Annotated[
        list[str] | None, typer.Option("--label", "-l", help="A label; may be repeated.")
    ] = None,
    labels: Annotated[Path | None, typer.Option(help="A file with a label on each line.")] = None,
    templates: Annotated[
        list[str] | None,
        typer.Option(
            help="imagenet-80, imagenet-7 (the default), photo or label; or a sentence with {}, which may be repeated."
        ),
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="So many labels for each picture.")] = 5,
    model: DualEncoder = "mini-search",
    device: options.Device = "cpu",
    dtype: options.Dtype = None,
    adapter: options.Adapter = None,
    as_json: Json = False,
) -> None:
    """Tell which labels fit pictures best. Any words can be labels of a dual encoder; a classifier has its own."""
    from beholder.cli.names import open_card
    from beholder.prompts.templates import templates_of

    words = [*(label or ()), *(lines_of(labels) if labels is not None else ())]
    if not words and "labels" not in {head.output for head in open_card(model).heads}:
        raise BeholderError("no labels; give --label WORDS for each, or --labels FILE")
    given: str | list[str] = templates or "imagenet-7"
    if isinstance(given, list) and len(given) == 1:
        given = given[0]
    templates_of(given)
    paths = [str(path) for path in pictures]
    sources = check_pictures(paths)
    found = options.open_model(model, device, dtype, adapter=adapter).classify(
        sources, words or None, templates=given
    )
    best = found.top(top)
    if as_json:
        rows = [
            {"picture": path, "labels": [{"label": word, "probability": odds} for word, odds in row]}
            for path, row in zip(paths, best, strict=True)
        ]
        print_json({"model": model, "templates": templates_of(given) if words else [], "pictures": rows})
        return
    console().print(_classes(paths, best))


def lines_of(path: Path) -> list[str]:
    """The lines of a text file that are not blank. Raises `BeholderError` where it has none."""
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except OSError as error:
        raise BeholderError(f"{path}: {(error.strerror or str(error)).lower()}; check the path") from None
    except UnicodeDecodeError:
        raise BeholderError(f"{path}: is not text in UTF-8; give one entry a line") from None
    found = [line for line in lines if line]
    if not found:
        raise BeholderError(f"{path}: is empty; give one entry a line")
    return found


def tell_skipped(reasons: Any) -> None:
    """Pictures that could not be read, a line each, on stderr."""
    for why in reasons:
        note(f"skipped: {why}")


def _draw(found: Found, sheet: Path, title: str) -> None:
    from PIL import Image

    from beholder.files import atomic_file
    from beholder.media.decode import decode
    from beholder.media.sheet import picture_sheet

    captions = [f"{hit.likeness:.3f} {hit.picture.name}" for hit in found.hits]
    drawn = picture_sheet([decode(hit.picture) for hit in found.hits], captions, title=title)
    with atomic_file(sheet) as temporary:
        Image.fromarray(drawn).save(temporary, format="PNG")


def _table(*headings: str) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in headings:
        table.add_column(
            heading, overflow="fold", justify="right" if heading in ("likeness", "probability") else "left"
        )
    return table


def _hits(found: Found, folder: Path) -> Table:
    from rich.text import Text

    table = _table("likeness", "picture")
    for hit in found.hits:
        table.add_row(f"{hit.likeness:.3f}", Text(hit.picture.relative_to(folder).as_posix()))
    return table


def _classes(paths: Sequence[str], best: Sequence[Sequence[tuple[str, float]]]) -> Table:
    from rich.text import Text

    table = _table("picture", "label", "probability")
    for path, row in zip(paths, best, strict=True):
        for number, (word, odds) in enumerate(row):
            table.add_row(Text("" if number else Path(path).name), Text(word), f"{100 * odds:.1f} %")
    return table


def _scores(paths: Sequence[str], texts: Sequence[str], scores_VB: Any) -> Table:
    from rich.text import Text

    table = _table("picture")
    for words in texts:
        table.add_column(Text(words), justify="right", overflow="fold")
    for path, row in zip(paths, scores_VB.tolist(), strict=True):
        best = max(row)
        table.add_row(Text(Path(path).name), *(Text(f"{s:.2f}", "bold" if s == best else "") for s in row))
    return table

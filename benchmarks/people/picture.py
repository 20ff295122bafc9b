"""Draw the first picture of the README: the included photographs with the detections of the people model.

python benchmarks/people/picture.py docs/images/people.jpg
"""

from __future__ import annotations

import sys
from pathlib import Path

import click
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

import runtimes  # noqa: E402
from runtimes.draw import draw_detections  # noqa: E402
from runtimes.shipped import default_model  # noqa: E402
from runtimes.sinks import write_image  # noqa: E402
from runtimes.sources.photograph import hang  # noqa: E402


@click.command()
@click.argument("output", type=click.Path(path_type=Path))
@click.option("--conf", default=0.5, show_default=True, help="Score threshold.")
def main(output: Path, conf: float) -> None:
    """Draw each photograph and write them side by side."""
    drawn = []
    with runtimes.load("people") as model:
        for path in default_model().photographs:
            image = hang([path])
            found = model.infer(image)
            found = found[found.scores >= conf]
            click.echo(f"{path.name}: {', '.join(f'{100 * score:.0f} %' for score in found.scores) or 'nothing'}")
            drawn.append(draw_detections(image, found))
    write_image(output, np.concatenate(drawn, axis=1))
    click.echo(f"wrote {output} ({output.stat().st_size / 1e3:.0f} kB)")


if __name__ == "__main__":
    main()

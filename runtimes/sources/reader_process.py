"""The program that `Connection` starts: it reads one live source in a process of its own, see `reader`.

It is run by its path, so that Python finds the folder `reader` beside it and imports nothing else of this package,
which would import OpenCV and NumPy.
"""

from __future__ import annotations

from reader.main import main

if __name__ == "__main__":
    main()

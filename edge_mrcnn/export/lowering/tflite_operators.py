"""What a TFLite file is made of."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from ai_edge_litert import schema_py_generated as schema

NAMES = {code: name for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)}


def list_operators(path: str | Path) -> dict[str, int]:
    """Operators of a TFLite file and how often each occurs in all its signatures, most frequent first.

    A custom operator is listed as "CUSTOM:<its name>".
    """
    model = schema.ModelT.InitFromPackedBuf(Path(path).read_bytes())
    names = [_name(code) for code in model.operatorCodes]
    counts = Counter(names[operator.opcodeIndex] for graph in model.subgraphs for operator in graph.operators)
    return dict(counts.most_common())


def _name(code: schema.OperatorCodeT) -> str:
    # A code above 126 does not fit the older of the two fields, which then holds a placeholder.
    name = NAMES[max(code.builtinCode, code.deprecatedBuiltinCode)]
    return f"{name}:{code.customCode.decode()}" if name == "CUSTOM" else name

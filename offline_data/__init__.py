"""Data sets of offline transitions: read, downloaded, generated, cached.

Everything is imported on first use, so that the command line starts without loading PyTorch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rlbench.offline_data.dataset import DataSet as DataSet, Provenance as Provenance
    from rlbench.offline_data.formats._transitions import as_transitions as as_transitions
    from rlbench.offline_data.formats.hdf5 import write_hdf5 as write_hdf5
    from rlbench.offline_data.index import (
        check_data as check_data,
        data_info as data_info,
        get_data as get_data,
        list_data as list_data,
    )
    from rlbench.offline_data.opening import open_data as open_data
    from rlbench.offline_data.recorded import as_recorded as as_recorded

_MODULE_OF = {
    "DataSet": "dataset",
    "Provenance": "dataset",
    "as_recorded": "recorded",
    "as_transitions": "formats._transitions",
    "check_data": "index",
    "data_info": "index",
    "get_data": "index",
    "list_data": "index",
    "open_data": "opening",
    "write_hdf5": "formats.hdf5",
}
__all__ = list(_MODULE_OF)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name in _MODULE_OF:
        return getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

import io
import tarfile

import numpy as np

from rcdp_hpc.config import DataSection
from rcdp_hpc.data.sources import open_source


def opened(source, path, **options):
    return open_source(DataSection(source=source, path=str(path), **options))


def everything(part):
    return np.asarray(part.x[:])


def write_tar(path, members, mode="w"):
    with tarfile.open(path, mode) as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path

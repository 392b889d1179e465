"""Which files in a folder are images to read, and which are left out and why. No image is decoded."""

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from dmlstudy.core.files import StudyError
from dmlstudy.data.class_names import composed

# Formats of images that Pillow decodes itself, without another program.
_READ = """
.jpg .jpeg .jpe .jfif .mpo .png .apng .gif .bmp .dib .tif .tiff .webp .avif .avifs
.jp2 .j2k .jpx .jpf .jpc .j2c .ppm .pgm .pbm .pnm .pfm .tga .icb .vda .vst .pcx .dcx .psd .qoi
.sgi .rgb .rgba .bw .ras .dds .xbm .xpm .msp .pcd .im .ico .cur .icns .blp .pxr .fit .fits
"""
EXTENSIONS = frozenset(_READ.split())
# Other formats of images: of phones and the web, raw files of cameras, drawings and print, science and
# medicine. They are named where they are left out.
_OTHERS = """
.heic .heif .heics .heifs .hif .jxl .jxr .wdp .hdp .bpg .flif .svg .svgz .jng .mng .wbmp
.dng .raw .cr2 .cr3 .crw .nef .nrw .arw .srf .sr2 .orf .ori .rw2 .rwl .raf .pef .ptx .dcr .kdc .k25
.mrw .x3f .erf .3fr .fff .iiq .mef .mos .cap .eip .srw .gpr .bay
.eps .ps .pdf .ai .cdr .wmf .emf .xcf .kra .psb .exr .hdr .pict .pct .palm .djvu .djv
.dcm .dicom .nii .czi .nd2 .lif .lsm .oib .oif .vsi .svs .ndpi .scn .mrxs .jls .gbr .fli .flc
.ftc .ftu .iim .grib .bufr
"""
NOT_READ = frozenset(_OTHERS.split())
# First bytes of common images, for files with another name.
_SIGNATURES = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"\0\0\0\x0cjP  ", "JPEG 2000"),
)
# Folders in which systems and programs keep thumbnails, deleted files and caches.
PROGRAM_FOLDERS = frozenset(
    {
        *(
            "@eadir",
            "@tmp",
            "@recycle",
            "@recently-snapshot",
            "@__thumb",
            "@synoresource",
            "@sharebin",
        ),
        *("#recycle", "#snapshot", "$recycle.bin", "$extend", "recycler", "recycled", "found.000"),
        *("system volume information", "lost+found", "network trash folder", "temporary items"),
        *("__macosx", "__pycache__", "node_modules", "ipod photo cache", "captureone", "canonmsc"),
        *("thumbs", "_thumbs", "thumbnails", "_thumbnails", "files_trashbin", "files_versions"),
        *("kpcms", "[originals]", "trash", "$windows.~bt"),
    }
)
_PROGRAM_ENDINGS = (".lrdata", ".photoslibrary", ".photolibrary", ".aplibrary")


@dataclass(frozen=True)
class LeftOut:
    """A file or folder that is not read: its path and a sentence that says why."""

    path: str
    reason: str


def of_a_program(name):
    """Whether a folder's name is that of a system's or a program's own folder."""
    name = composed(name).casefold()
    return name in PROGRAM_FOLDERS or name.endswith(_PROGRAM_ENDINGS)


def entries(folder):
    """The entries of a folder, sorted by name, as `os.DirEntry`; StudyError if it cannot be read."""
    try:
        with os.scandir(folder) as found:
            return sorted(found, key=lambda entry: (composed(entry.name), entry.name))
    except OSError as error:
        raise StudyError(f"{_text(folder)}: cannot be read: {error.strerror}") from None


def status(entry):
    """``os.stat_result`` of an entry, links followed; None if there is nothing, or a circle of links."""
    try:
        return entry.stat()
    except OSError:
        return None


def is_image_file(name):
    """Whether a file's name is that of an image that is read."""
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in EXTENSIONS


def find_image_files(folder, *, by_content=False):
    """The images in a folder and its subfolders: (paths, list of `LeftOut`).

    Paths are relative to ``folder``, with slashes, sorted. Linked folders are followed; a folder that is
    reached twice, or that is above ``folder``, is left out, so that circles end. Hidden files and
    folders and those of programs are left out. ``by_content``: also open files with other names, to
    name those that hold an image. Raises StudyError for a folder that cannot be read.
    """
    root = os.fspath(folder)
    above = _folders_above(root)
    found, left, visited = [], [], {}
    pending, links = [("", root)], []
    while pending or links:
        # Links come last: a folder is listed where it is, not where it is linked.
        prefix, path = pending.pop() if pending else links.pop(0)
        here = os.stat(path)
        identity = (here.st_dev, here.st_ino)
        if identity in visited:
            first = visited[identity] or "."
            left.append(LeftOut(prefix, f"is the same folder as {first}, which is listed"))
            continue
        if prefix and identity in above:
            left.append(LeftOut(prefix, "is a link to a folder above it"))
            continue
        visited[identity] = prefix
        inner = []
        for entry in entries(path):
            name = f"{prefix}/{entry.name}" if prefix else entry.name
            info = status(entry)
            if info is not None and stat.S_ISDIR(info.st_mode):
                reason = why_not_folder(entry, by_content)
                if reason:
                    left.append(LeftOut(name, reason))
                elif reason is None:
                    (links if entry.is_symlink() else inner).append((name, entry.path))
            elif info is not None and stat.S_ISREG(info.st_mode) and is_image_file(entry.name):
                found.append(name)
            else:
                reason = why_not_file(entry, info, by_content)
                if reason:
                    left.append(LeftOut(name, reason))
        pending += reversed(inner)
    return sorted(found, key=path_order), sorted(left, key=lambda one: path_order(one.path))


def path_order(path):
    """Sort key of a path: the same for both Unicode spellings of a name."""
    return composed(path), path


def why_not_file(entry, info, by_content):
    """Why an entry that is no folder is left out, or None if nobody would miss it.

    ``info``: its `status`; ``by_content``: see `find_image_files`.
    """
    name, extension = entry.name, os.path.splitext(entry.name)[1].lower()
    named = extension in EXTENSIONS or extension in NOT_READ
    if name.startswith("._"):
        # What macOS keeps beside a file on other file systems.
        return None
    if info is None:
        return "is a link that leads to no file" if named else None
    if not stat.S_ISREG(info.st_mode):
        return "is not a file but a pipe, a socket or a device"
    if name.startswith("."):
        return "is hidden: its name begins with a dot" if named else None
    if extension in NOT_READ:
        return f"{extension} files are not read; convert it to JPEG, PNG or TIFF"
    kind = _kind(entry.path) if by_content else None
    if kind:
        return f"holds an image ({kind}), but its name has no extension of an image; rename it"
    return None


def why_not_folder(entry, look_inside):
    """Why a folder is left out; an empty text if nobody would miss it, None if it is listed."""
    if of_a_program(entry.name):
        return "is a folder of a system or program"
    if not entry.name.startswith("."):
        return None
    holds = look_inside and any(
        os.path.splitext(name)[1].lower() in EXTENSIONS | NOT_READ
        for _, _, names in os.walk(entry.path)
        for name in names
    )
    return "is a hidden folder with images" if holds else ""


def _folders_above(folder):
    """(device, inode) of the folders above ``folder``, by its own path and by its real one."""
    found = set()
    for path in (os.path.abspath(folder), os.path.realpath(folder)):
        for parent in Path(path).parents:
            info = parent.stat()
            found.add((info.st_dev, info.st_ino))
    return found


def _kind(path):
    """The format of an image by its first bytes, or None."""
    try:
        with open(path, "rb") as stream:
            start = stream.read(16)
    except OSError:
        return None
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        return "WebP"
    if start[4:8] == b"ftyp" and start[8:12] in (b"heic", b"heix", b"mif1", b"avif"):
        return "AVIF" if start[8:12] == b"avif" else "HEIF"
    return next((kind for begin, kind in _SIGNATURES if start.startswith(begin)), None)


def _text(path):
    """A path as text that can be printed."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")

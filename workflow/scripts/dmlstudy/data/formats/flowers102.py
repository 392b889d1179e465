"""Oxford Flowers 102: jpg/image_00001.jpg …, imagelabels.mat, setid.mat."""

from dmlstudy.core.files import StudyError
from dmlstudy.data.formats import matlab
from dmlstudy.data.formats.published import Rows, class_number, find_root

NAME = "Oxford Flowers 102"
PARTS = {"trnid": "train", "valid": "validation", "tstid": "test"}
# The files hold numbers only. The names are those of the data set's page, in the order of the labels.
NAMES = (
    "pink primrose",
    "hard-leaved pocket orchid",
    "canterbury bells",
    "sweet pea",
    "english marigold",
    "tiger lily",
    "moon orchid",
    "bird of paradise",
    "monkshood",
    "globe thistle",
    "snapdragon",
    "colt's foot",
    "king protea",
    "spear thistle",
    "yellow iris",
    "globe-flower",
    "purple coneflower",
    "peruvian lily",
    "balloon flower",
    "giant white arum lily",
    "fire lily",
    "pincushion flower",
    "fritillary",
    "red ginger",
    "grape hyacinth",
    "corn poppy",
    "prince of wales feathers",
    "stemless gentian",
    "artichoke",
    "sweet william",
    "carnation",
    "garden phlox",
    "love in the mist",
    "mexican aster",
    "alpine sea holly",
    "ruby-lipped cattleya",
    "cape flower",
    "great masterwort",
    "siam tulip",
    "lenten rose",
    "barbeton daisy",
    "daffodil",
    "sword lily",
    "poinsettia",
    "bolero deep blue",
    "wallflower",
    "marigold",
    "buttercup",
    "oxeye daisy",
    "common dandelion",
    "petunia",
    "wild pansy",
    "primula",
    "sunflower",
    "pelargonium",
    "bishop of llandaff",
    "gaura",
    "geranium",
    "orange dahlia",
    "pink-yellow dahlia?",
    "cautleya spicata",
    "japanese anemone",
    "black-eyed susan",
    "silverbush",
    "californian poppy",
    "osteospermum",
    "spring crocus",
    "bearded iris",
    "windflower",
    "tree poppy",
    "gazania",
    "azalea",
    "water lily",
    "rose",
    "thorn apple",
    "morning glory",
    "passion flower",
    "lotus",
    "toad lily",
    "anthurium",
    "frangipani",
    "clematis",
    "hibiscus",
    "columbine",
    "desert-rose",
    "tree mallow",
    "magnolia",
    "cyclamen",
    "watercress",
    "canna lily",
    "hippeastrum",
    "bee balm",
    "ball moss",
    "foxglove",
    "bougainvillea",
    "camellia",
    "mallow",
    "mexican petunia",
    "bromelia",
    "blanket flower",
    "trumpet creeper",
    "blackberry lily",
)


def _parts(path, images):
    """The official part of each image, by its number from 1."""
    found = {}
    values = matlab.read(path, *PARTS, name=NAME)
    for (variable, part), value in zip(PARTS.items(), values, strict=True):
        for number in matlab.whole_numbers(path, variable, value):
            if not 1 <= number <= images:
                raise StudyError(f"{path}: {variable} names image {number}; there are {images}")
            if number in found:
                raise StudyError(f"{path}: image {number} is in two parts")
            found[number] = part
    for number in range(1, images + 1):
        if number not in found:
            raise StudyError(f"{path}: image {number} is in no part")
    return found


def build(folder):
    """Return (class names, rows); see `cub.build`. The official split is in setid.mat."""
    root = find_root(folder, "imagelabels.mat", NAME)
    path = root / "imagelabels.mat"
    (labels,) = matlab.read(path, "labels", name=NAME)
    labels = matlab.whole_numbers(path, "labels", labels)
    parts = _parts(root / "setid.mat", len(labels))
    rows = Rows(folder, root / "jpg")
    for number, label in enumerate(labels, 1):
        class_id = class_number(f"{path}: image {number}", label, len(NAMES))
        rows.add(path, f"image_{number:05}.jpg", class_id, part=parts[number])
    return list(NAMES), rows.rows

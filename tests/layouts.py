"""Miniatures of published data sets in their official layouts: tiny drawn images, real tables.

Each function writes one into a folder and returns what a reader must find:
{path: (class name, box or None, official part or None)}.
"""

import json

import numpy as np
from PIL import Image
from scipy.io import savemat

SIDE = 24


def draw(path, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng([seed, *path.name.encode()])
    Image.fromarray(rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)).save(path)


def write(path, *lines, end="\n"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(line + end for line in lines), encoding="utf-8", newline="")


def structures(entries):
    """An array of MATLAB structures from dictionaries of the same keys."""
    array = np.empty((1, len(entries)), dtype=[(key, object) for key in entries[0]])
    for index, entry in enumerate(entries):
        for key, value in entry.items():
            array[0, index][key] = value
    return array


def cells(texts):
    array = np.empty((1, len(texts)), dtype=object)
    array[0, :] = texts
    return array


def flowers102(folder):
    """Four images of each of the 102 classes; parts in an order of their own."""
    from torchvision.datasets import Flowers102

    order = np.random.default_rng(1).permutation(np.repeat(np.arange(1, 103), 4))
    parts, found = {"trnid": [], "valid": [], "tstid": []}, {}
    names = {"trnid": "train", "valid": "validation", "tstid": "test"}
    seen = dict.fromkeys(range(1, 103), 0)
    for number, label in enumerate(order, 1):
        draw(folder / f"jpg/image_{number:05}.jpg")
        key = ("trnid", "valid", "tstid", "tstid")[seen[label]]
        seen[label] += 1
        parts[key].append(number)
        found[f"jpg/image_{number:05}.jpg"] = Flowers102.classes[label - 1], None, names[key]
    # As in the official files: unsigned bytes and 16-bit numbers, in one row.
    savemat(folder / "imagelabels.mat", {"labels": order[None].astype(np.uint8)})
    savemat(folder / "setid.mat", {k: np.array([v[::-1]], np.uint16) for k, v in parts.items()})
    return found


BREEDS = [
    f"{'Abcdef'[index % 6] if index < 12 else 'abcdef'[index % 6]}reed_{index}"
    for index in range(37)
]


def pets(folder):
    """37 breeds; three training and two test images each; heads of some training images."""
    lists, found = {"trainval": [], "test": []}, {}
    for index, breed in enumerate(BREEDS):
        for number in (1, 2, 10, 100, 101):
            part = "test" if number in (10, 101) else "trainval"
            image = f"{breed}_{number}"
            draw(folder / f"images/{image}.jpg")
            lists[part].append(f"{image} {index + 1} {1 + (index >= 12)} {index + 1}")
            box = None
            if part == "trainval" and number < 100:
                box = (2.0, 3.0, 10.0 + number, 5.0)
                write(
                    folder / f"annotations/xmls/{image}.xml",
                    f"<annotation><filename>{image}.jpg</filename><object><name>cat</name><bndbox>",
                    f"<xmin>3</xmin><ymin>4</ymin><xmax>{12 + number}</xmax><ymax>8</ymax>",
                    "</bndbox></object></annotation>",
                )
            found[f"images/{image}.jpg"] = breed, box, "train" if part == "trainval" else "test"
    # The official archive has label matrices among the images, and copies of macOS.
    (folder / "images/Abyssinian_100.mat").write_bytes(b"MATLAB")
    write(
        folder / "annotations/list.txt",
        "#Image CLASS-ID SPECIES BREED ID",
        *(line for lines in lists.values() for line in lines),
    )
    for part, lines in lists.items():
        write(folder / f"annotations/{part}.txt", *lines)
    return found


VARIANTS = ["707-320", "727-200", "An-12", "Boeing 717", "DC-9-30", "F/A-18"]


def aircraft(folder):
    root, found, boxes = folder / "fgvc-aircraft-2013b/data", {}, []
    write(root / "variants.txt", *VARIANTS)
    parts = {"train": "train", "val": "validation", "test": "test"}
    lists = {part: [] for part in parts}
    for index in range(len(VARIANTS) * 5):
        image, variant = f"{1234567 + 37 * index:07}", VARIANTS[index % len(VARIANTS)]
        part = ("train", "train", "val", "test", "test")[index // len(VARIANTS)]
        draw(root / f"images/{image}.jpg")
        lists[part].append(f"{image} {variant}")
        boxes.append(f"{image} 2 3 {10 + index % 5} 20")
        box = (1.0, 2.0, 9.0 + index % 5, 18.0)
        found[f"fgvc-aircraft-2013b/data/images/{image}.jpg"] = variant, box, parts[part]
    write(root / "images_box.txt", *boxes)
    for part, lines in lists.items():
        write(root / f"images_variant_{part}.txt", *lines)
    write(root / "images_variant_trainval.txt", *lists["train"], *lists["val"])
    return found


DISHES = ["apple_pie", "baklava", "pad_thai", "pho"]


def food101(folder):
    root, found = folder / "food-101", {}
    lists = {"train": {}, "test": {}}
    for dish in DISHES:
        for number in range(8):
            part, image = "test" if number % 4 == 1 else "train", f"{dish}/{10051 * (number + 1)}"
            draw(root / f"images/{image}.jpg")
            lists[part].setdefault(dish, []).append(image)
            found[f"food-101/images/{image}.jpg"] = dish, None, part
    write(root / "meta/classes.txt", *DISHES)
    write(root / "meta/labels.txt", *(dish.replace("_", " ").title() for dish in DISHES))
    for part, images in lists.items():
        write(root / f"meta/{part}.json", json.dumps(images))
        write(root / f"meta/{part}.txt", *(line for lines in images.values() for line in lines))
    return found


CARS = ["AM General Hummer SUV 2000", "Acura RL Sedan 2012", "Ram C/V Cargo Van 2012"]


def _cars():
    """(number, class id, part) of each car: classes are mixed."""
    return [(n, (n * 2) % 3, "test" if n % 4 == 3 else "train") for n in range(1, 16)]


def _car_box(number):
    """(corners as stored, box as read)."""
    corners = {"bbox_x1": 2, "bbox_y1": 3, "bbox_x2": 10 + number, "bbox_y2": 12}
    return corners, (1.0, 2.0, 9.0 + number, 10.0)


def cars196(folder):
    """The authors' single list."""
    entries, found = [], {}
    for number, class_id, part in _cars():
        image = f"car_ims/{number:06}.jpg"
        draw(folder / image)
        corners, box = _car_box(number)
        entry = {"class": class_id + 1, "test": int(part == "test")}
        entries.append({"relative_im_path": image, **corners, **entry})
        found[image] = CARS[class_id], box, part
    names = {"annotations": structures(entries), "class_names": cells(CARS)}
    savemat(folder / "cars_annos.mat", names)
    return found


def cars196_kit(folder):
    """Two folders of images and a development kit, as torchvision reads it."""
    root, found, entries = folder / "stanford_cars", {}, {"train": [], "test": []}
    for number, class_id, part in _cars():
        image = f"{len(entries[part]) + 1:05}.jpg"
        draw(root / f"cars_{part}/{image}", seed=number)
        corners, box = _car_box(number)
        entries[part].append({**corners, "class": class_id + 1, "fname": image})
        found[f"stanford_cars/cars_{part}/{image}"] = CARS[class_id], box, part
    (root / "devkit").mkdir()
    savemat(root / "devkit/cars_meta.mat", {"class_names": cells(CARS)})
    kit = {"train": "devkit/cars_train_annos.mat", "test": "cars_test_annos_withlabels.mat"}
    for part, name in kit.items():
        savemat(root / name, {"annotations": structures(entries[part])})
    return found


def cars196_by_class(folder):
    """A folder per class and CSV tables, as pytorch-metric-learning reads it."""
    found, tables = {}, {"train": [], "test": []}
    for number, class_id, part in _cars():
        image = f"{number:05}.jpg"
        place = f"car_data/car_data/{part}/{CARS[class_id].replace('/', '-')}/{image}"
        draw(folder / place)
        corners, box = _car_box(number)
        tables[part].append(",".join(map(str, [image, *corners.values(), class_id + 1])))
        found[place] = CARS[class_id], box, part
    write(folder / "names.csv", *CARS)
    for part, lines in tables.items():
        write(folder / f"anno_{part}.csv", *lines)
    return found


def online_products(folder):
    root, found = folder / "Stanford_Online_Products", {}
    lists = {"train": [], "test": []}
    kinds = ["bicycle", "mug", "coffee_maker"]
    for product in range(1, 9):
        kind = kinds[product % 3]
        for view in range(2 + product % 3):
            part = "train" if product <= 4 else "test"
            path = f"{kind}_final/{1100 + product}_{view}.JPG"
            draw(root / path)
            number = sum(map(len, lists.values())) + 1
            lists[part].append(f"{number} {product} {product % 3 + 1} {path}")
            found[f"Stanford_Online_Products/{path}"] = f"{kind} {product}", None, None
    for part, lines in lists.items():
        write(root / f"Ebay_{part}.txt", "image_id class_id super_class_id path", *lines)
    return found


def inshop(folder):
    """Six items: two for training, three for testing, and one training item with one image."""
    found, lines, boxes = {}, [], []
    for item in (2, 5, 1, 3, 4, 9):
        parts = ["query", "gallery", "gallery"] if item in (1, 3, 4) else ["train"] * 2
        for view, part in enumerate(parts[:1] if item == 9 else parts):
            path = f"img/WOMEN/Dresses/id_{item:08}/{view + 1:02}_1_front.jpg"
            draw(folder / path)
            lines.append(f"{path}   id_{item:08} {part}   ")
            boxes.append(f"{path}  3  1  002  003  {12 + view:03}  020")
            if item != 9:
                found[path] = f"id_{item:08}", (2.0, 3.0, 10.0 + view, 17.0), None
    write(
        folder / "Eval/list_eval_partition.txt",
        str(len(lines)),
        "image_name item_id evaluation_status",
        *lines,
    )
    columns = "image_name  clothes_type  pose_type  x_1  y_1  x_2  y_2"
    write(folder / "Anno/list_bbox_inshop.txt", str(len(boxes)), columns, *boxes)
    return found


def hotels50k(folder):
    """Three hotels; one image is not there any more; of the third hotel only one is."""
    hotels = {"9": ("Sea, View", "2"), "10": ("Inn", "-1"), "11": ("Old Mill", "2")}
    tables, found = {"train": [], "test": []}, {}
    for hotel, (name, chain) in hotels.items():
        for number in range(3):
            image, source = f"{hotel}{number}", ("travel_website", "traffickcam")[number % 2]
            tables["train"].append(
                f"{image},{hotel},https://host/p/{image}.jpg?w=1,{source},2017-01-0{number + 1}"
            )
            place = f"images/train/{chain}/{hotel}/{source}/{image}.jpg"
            if (hotel, number) != ("10", 1) and (hotel, number) not in (("11", 1), ("11", 2)):
                draw(folder / place)
                if hotel != "11":
                    found[place] = f"{name} ({hotel})", None, None
    tables["test"].append("900,9,https://host/q/900.png,traffickcam,2018-01-01")
    place = "images/test/unoccluded/2/9/traffickcam/900.jpg"
    draw(folder / place)
    found[place] = "Sea, View (9)", None, None
    base = folder / "input/dataset"
    write(
        base / "hotel_info.csv",
        "hotel_id,hotel_name,chain_id,latitude,longitude",
        *(f'{key},"{name}",{chain},1.5,-2.5' for key, (name, chain) in hotels.items()),
    )
    for part, lines in tables.items():
        # The training table has a header, the test table has none.
        head = ["image_id,hotel_id,image_url,image_source,upload_timestamp"]
        write(base / f"{part}_set.csv", *(head if part == "train" else []), *lines)
    return found


def cub(folder):
    root, found, tables = folder / "CUB_200_2011", {}, [[], [], [], []]
    birds = ["001.Albatross", "002.Auklet", "003.Bunting"]
    for number in range(1, 13):
        bird = birds[(number - 1) // 4]
        path = f"{bird}/{number:04}.jpg"
        draw(root / "images" / path)
        part = "train" if number % 4 else "test"
        lines = (
            path,
            str((number - 1) // 4 + 1),
            f"1.0 2.0 {5 + number}.0 9.0",
            str(int(part == "train")),
        )
        for table, line in zip(tables, lines, strict=True):
            table.append(f"{number} {line}")
        found[f"CUB_200_2011/images/{path}"] = bird, (1.0, 2.0, 5.0 + number, 9.0), part
    files = ("images", "image_class_labels", "bounding_boxes", "train_test_split")
    for name, table in zip(files, tables, strict=True):
        write(root / f"{name}.txt", *table)
    write(root / "classes.txt", *(f"{i} {bird}" for i, bird in enumerate(birds, 1)))
    return found


# {name: (format, function)}.
LAYOUTS = {
    "cub": ("cub", cub),
    "cars196": ("cars196", cars196),
    "cars196_kit": ("cars196", cars196_kit),
    "cars196_by_class": ("cars196", cars196_by_class),
    "online_products": ("online_products", online_products),
    "inshop": ("inshop", inshop),
    "hotels50k": ("hotels50k", hotels50k),
    "flowers102": ("flowers102", flowers102),
    "pets": ("pets", pets),
    "aircraft": ("aircraft", aircraft),
    "food101": ("food101", food101),
}

"""Opens what guard-host writes with the packages of others, and lets it read what they write.

    cargo xtask interop        (or: python tests/interop/check.py HOST CONFIG WORK RESULT)

HOST is the program, CONFIG the folder of recipes, WORK an empty folder, RESULT the page that is written. A check whose package is
not there is told as not run; one that fails makes the script end with 1, after all others.
"""

import csv
import datetime
import importlib.metadata
import io
import json
import os
import pathlib
import shutil
import subprocess
import sys
import time
import traceback

HOST, CONFIG, WORK, RESULT = (pathlib.Path(path).resolve() for path in sys.argv[1:5])
PACKAGES = ["tensorboard", "torch", "torchvision", "datasets", "safetensors", "numpy", "pillow"]
SHORT = [
    "training.epochs=2",
    "distill.iterations=20",
    "student.epochs=5",
    "student.count=1",
    "evaluate.attacks.0.options.steps=3",
    "evaluate.probe_images=0",
]
CHECKS = []


def check(about):
    def add(function):
        CHECKS.append((about, function))
        return function

    return add


def host(*words):
    """Runs guard-host in WORK and returns what it prints."""
    done = subprocess.run([HOST, *map(str, words)], cwd=WORK, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def variants():
    """Name and folder of each variant of the run."""
    return [(path.name, path) for path in sorted((WORK / "run").iterdir()) if (path / "distilled").is_dir()]


def metrics():
    return [json.loads(line) for line in (WORK / "run/metrics.jsonl").read_text().splitlines()]


def distilled(folder):
    import safetensors.numpy

    return safetensors.numpy.load_file(folder / "distilled.safetensors")


def levels(images):
    """Pixels as pictures have them, [N,H,W,C]."""
    import numpy

    return numpy.round(images * 255).clip(0, 255).astype("uint8").transpose(0, 2, 3, 1)


@check("TensorBoard's EventAccumulator finds the numbers of metrics.jsonl")
def scalars():
    import numpy
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    count = 0
    for name, _ in variants():
        events = EventAccumulator(str(WORK / "run/tensorboard" / name), size_guidance={"scalars": 0}).Reload()
        found = {(tag, event.step): event.value for tag in events.Tags()["scalars"] for event in events.Scalars(tag)}
        wanted = {
            (f"{line['stage']}/{metric}", line["iteration"]): numpy.float32(value)
            for line in metrics()
            if line["variant"] == name
            for metric, value in line["metrics"].items()
        }
        assert found == wanted, set(found) ^ set(wanted)
        count += len(found)
    return f"{count} numbers of {len(variants())} variants"


@check("TensorBoard's EventAccumulator finds the contact sheet, and Pillow decodes it")
def pictures():
    from PIL import Image
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for name, folder in variants():
        events = EventAccumulator(str(WORK / "run/tensorboard" / name), size_guidance={"images": 0}).Reload()
        [event] = events.Images("distill/contact-sheet")
        picture = Image.open(io.BytesIO(event.encoded_image_string))
        assert picture.size == (event.width, event.height)
        assert picture.tobytes() == Image.open(folder / "distilled/contact-sheet.png").tobytes()
    return f"{picture.width}x{picture.height}"


@check("TensorBoard's EventAccumulator finds how far attacks moved the images that they were tried on")
def histograms():
    import safetensors.numpy
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    count = 0
    for name, folder in variants():
        events = EventAccumulator(str(WORK / "run/tensorboard" / name), size_guidance={"histograms": 0}).Reload()
        for tag in events.Tags()["histograms"]:
            [event] = events.Histograms(tag)
            sizes = event.histogram_value
            assert sum(sizes.bucket) == sizes.num and len(sizes.bucket) == len(sizes.bucket_limit)
            if tag.startswith("evaluate teacher/"):
                arrays = safetensors.numpy.load_file(folder / "evaluations/teacher.safetensors")
                moved = arrays[tag.removeprefix("evaluate teacher/")][arrays["clean"] == 1]
                assert (sizes.num, sizes.max) == (len(moved), moved.max())
                count += 1
    assert count > 0
    return f"{count} of teachers held against their arrays"


@check("TensorBoard's own loader of the web page reads the event files")
def data_provider():
    from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer

    multiplexer = EventMultiplexer().AddRunsFromDirectory(str(WORK / "run/tensorboard"))
    multiplexer.Reload()
    runs = multiplexer.Runs()
    assert set(runs) == {name for name, _ in variants()}, runs
    return f"{sum(len(run['tensors']) for run in runs.values())} tags in {len(runs)} runs"


@check("Python's csv reads what `guard-host metrics` prints")
def table():
    rows = list(csv.DictReader(io.StringIO(host("metrics", "run"))))
    wanted = [
        (line["variant"], line["stage"], line["iteration"], metric, value)
        for line in metrics()
        for metric, value in line["metrics"].items()
    ]
    found = [
        (row["variant"], row["stage"], int(row["iteration"]), row["metric"], float(row["value"])) for row in rows
    ]
    assert found == wanted
    return f"{len(rows)} rows"


@check("torchvision's ImageFolder opens distilled/images")
def image_folder():
    import numpy
    import torchvision

    for _, folder in variants():
        manifest = json.loads((folder / "distilled/manifest.json").read_text())
        found = torchvision.datasets.ImageFolder(folder / "distilled/images")
        assert found.classes == manifest["classes"]
        set_ = distilled(folder / "distilled")
        assert [label for _, label in found.samples] == sorted(set_["labels"].tolist())
        order = numpy.argsort(set_["labels"], kind="stable")
        for (image, _), expected in zip(found, levels(set_["images"][order])):
            # The loader makes RGB of grey.
            assert (numpy.asarray(image) == expected).all()
    return f"{len(found)} images of {len(found.classes)} classes"


@check("safetensors opens distilled.safetensors")
def tensors():
    import safetensors

    for _, folder in variants():
        with safetensors.safe_open(folder / "distilled/distilled.safetensors", "numpy") as file:
            images, labels = file.get_tensor("images"), file.get_tensor("labels")
        assert images.dtype == "float32" and labels.dtype == "int64" and len(images) == len(labels)
        assert 0 <= images.min() and images.max() <= 1
    return f"{images.shape}"


@check("datasets loads the Parquet file with an Image and a ClassLabel")
def parquet():
    import datasets
    import numpy

    folder = variants()[0][1] / "distilled"
    host("distilled", "export", folder, "--out", WORK / "set.parquet")
    found = datasets.load_dataset("parquet", data_files=str(WORK / "set.parquet"), cache_dir=str(WORK / "cache"))["train"]
    assert isinstance(found.features["image"], datasets.Image), found.features
    assert isinstance(found.features["label"], datasets.ClassLabel), found.features
    assert found.features["label"].names == json.loads((folder / "manifest.json").read_text())["classes"]
    set_ = distilled(folder)
    assert found["label"] == set_["labels"].tolist()
    for row, expected in zip(found, levels(set_["images"])):
        assert (numpy.asarray(row["image"]) == expected[:, :, 0]).all()
    return f"{len(found)} rows"


@check("torch.load(weights_only=True) opens the .pt file")
def torch_file():
    import torch

    folder = variants()[0][1] / "distilled"
    host("distilled", "export", folder, "--out", WORK / "set.pt")
    found, set_ = torch.load(WORK / "set.pt", weights_only=True), distilled(folder)
    assert (found["images"].numpy() == set_["images"]).all() and (found["labels"].numpy() == set_["labels"]).all()
    return ", ".join(found)


@check("numpy opens the .npz file")
def npz():
    import numpy

    folder = variants()[0][1] / "distilled"
    host("distilled", "export", folder, "--out", WORK / "set.npz")
    found, set_ = numpy.load(WORK / "set.npz", allow_pickle=False), distilled(folder)
    assert (found["images"] == set_["images"]).all() and (found["labels"] == set_["labels"]).all()
    return ", ".join(found.files)


def cifar(torch):
    """Pixels that were learned, some outside of [0,1], and DC's constants."""
    pixels = torch.rand(20, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 1.2 - 0.1
    mean = torch.tensor([0.4914, 0.4822, 0.4465]).reshape(3, 1, 1)
    std = torch.tensor([0.2023, 0.1994, 0.2010]).reshape(3, 1, 1)
    return pixels, (pixels - mean) / std, torch.arange(10).repeat_interleave(2)


def same(folder, pixels, labels):
    import numpy

    found = distilled(WORK / folder)
    off = numpy.abs(found["images"] - pixels.numpy()).max()
    assert off < 1e-6 and (found["labels"] == labels.numpy()).all(), off
    return f"pixels within {off:.1e}"


@check("a set that torch saved as DC does is imported as the same pixels")
def dc():
    import torch

    pixels, images, labels = cifar(torch)
    data = [[torch.zeros_like(images), labels], [images, labels]]
    torch.save({"data": data, "accs_all_exps": {"ConvNet": [0.5]}}, WORK / "res_DC_CIFAR10_ConvNet_2ipc.pt")
    host("distilled", "import", "res_DC_CIFAR10_ConvNet_2ipc.pt", "--dataset", "cifar10", "--out", "dc")
    return same("dc", pixels, labels)


@check("a set that torch saved as MTT does is imported as the same pixels, with its learning rate")
def mtt():
    import torch

    pixels, images, labels = cifar(torch)
    (WORK / "logged").mkdir()
    for name, value in [("images", images), ("labels", labels), ("lr", torch.tensor(0.0123))]:
        torch.save(value, WORK / f"logged/{name}_best.pt")
    host("distilled", "import", "logged", "--dataset", "cifar10", "--space", "normalised", "--out", "mtt")
    learned = dict(json.loads((WORK / "mtt/manifest.json").read_text())["learned"])
    assert abs(learned["learning-rate"] - 0.0123) < 1e-8, learned
    return same("mtt", pixels, labels)


@check("a set in the whitened space of MTT (--zca), computed with torch, is imported as the same pixels")
def zca():
    import numpy
    import torch

    generator = torch.Generator().manual_seed(1)
    real = torch.rand(300, 3, 4, 4, generator=generator)
    numpy.savez(
        WORK / "real.npz",
        x_train=real.numpy(),
        y_train=numpy.arange(300) % 10,
        x_test=real[:10].numpy(),
        y_test=numpy.arange(10),
    )
    # kornia's ZCAWhitening(eps=0.1), by its formula.
    rows = real.flatten(1).double()
    mean = rows.mean(0)
    u, s, _ = torch.linalg.svd((rows - mean).T @ (rows - mean) / (len(rows) - 1))
    matrix = u @ torch.diag((s + 0.1).rsqrt()) @ u.T
    pixels, labels = torch.rand(10, 3, 4, 4, generator=generator), torch.arange(10)
    images = ((pixels.flatten(1).double() - mean) @ matrix).float().reshape(10, 3, 4, 4)
    (WORK / "whitened").mkdir()
    for name, value in [("images", images), ("labels", labels)]:
        torch.save(value, WORK / f"whitened/{name}_best.pt")
    words = ["--dataset", "npz", "--root", "real.npz", "--space", "whitened", "--out", "zca"]
    host("distilled", "import", "whitened", *words)
    found = distilled(WORK / "zca")["images"]
    off = numpy.abs(found - pixels.numpy()).max()
    assert off < 1e-4, off
    return f"pixels within {off:.1e}"


def tool(*names):
    """The first of some programs that is there."""
    for name in names:
        if found := shutil.which(name):
            return found
    raise ImportError(f"no `{names[0]}`")


@check("Chromium shows report.html and a comparison, wide and narrow, light and dark, without an error")
def browser():
    from PIL import Image

    chromium = tool("chromium", "chromium-browser", "google-chrome")
    host("report", "run", "run", "--as", "html", "--out", "both.html")
    for page in [WORK / "run/report.html", WORK / "both.html"]:
        for width in [1200, 390]:
            for scheme, dark in [([], False), (["--blink-settings=preferredColorScheme=0"], True)]:
                picture = WORK / "page.png"
                picture.unlink(missing_ok=True)
                words = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--enable-logging=stderr", *scheme]
                words += [f"--window-size={width},3000", f"--screenshot={picture}", page.as_uri()]
                done = subprocess.run([chromium, *words], capture_output=True, text=True, timeout=120)
                told = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
                assert done.returncode == 0 and not told, told
                shown = Image.open(picture).convert("L")
                assert shown.size == (width, 3000)
                # The edges are the background: nothing sticks out of the page.
                background = shown.getpixel((1, 1))
                assert (background < 64) == dark, (background, dark)
                edge = shown.crop((width - 4, 0, width, 3000)).getextrema()
                assert edge == (background, background), (page.name, width, dark, edge)
                assert len(shown.getcolors()) > 50
    return "8 pictures"


@check("pdflatex sets the tables of `guard-host report --as latex`")
def latex():
    pdflatex = tool("pdflatex")
    table = host("report", "run", "--as", "latex")
    text = "\\documentclass{article}\\usepackage{booktabs}\\begin{document}\n" + table + "\\end{document}\n"
    (WORK / "table.tex").write_text(text)
    done = subprocess.run([pdflatex, "-halt-on-error", "table.tex"], cwd=WORK, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-500:]
    return f"{(WORK / 'table.pdf').stat().st_size} bytes of PDF"


@check("Slurm runs configs/slurm/submit.sh to the bits of a run in one piece")
def slurm():
    sbatch = tool("sbatch")
    if subprocess.run(["sinfo", "--noheader", "--states", "idle"], capture_output=True, text=True).stdout.strip() == "":
        raise ImportError("no node of a cluster is idle")
    sets = ["training.epochs=2", "distill.iterations=5", "student.epochs=2", "student.count=1", "evaluate.attacks=[]"]
    recipe = f"extends = \"{CONFIG / 'digits.toml'}\"\n" + "\n".join(sets).replace("evaluate.attacks=[]", "")
    (WORK / "parts.toml").write_text(recipe + "\nevaluate.probe_images = 0\nevaluate.example_images = 0\nvariants = []\n")
    host("parts.toml", "--quiet", "--out", "in-one-piece")
    environment = {**os.environ, "GUARD_HOST": str(HOST)}
    submit = [CONFIG / "slurm/submit.sh", WORK / "parts.toml", "3", WORK / "cluster", "--cpus-per-task=1"]
    subprocess.run(submit, cwd=WORK, env=environment, check=True, capture_output=True)
    for _ in range(300):
        if subprocess.run(["squeue", "--noheader"], capture_output=True, text=True).stdout.strip() == "":
            break
        time.sleep(1)
    for file in ["distilled/distilled.safetensors", "checkpoints/student-0.safetensors"]:
        assert (WORK / "in-one-piece" / file).read_bytes() == (WORK / "cluster/whole" / file).read_bytes(), file
    version = subprocess.run([sbatch, "--version"], capture_output=True, text=True).stdout.strip()
    return f"3 parts, {version}"


def version(package):
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not there"


def main():
    sets = [word for change in SHORT for word in ("--set", change)]
    host("run", CONFIG / "digits.toml", "--quiet", "--out", "run", *sets)
    rows, failed = [], 0
    for about, function in CHECKS:
        try:
            outcome = f"passed: {function()}"
        except ImportError as error:  # a program that is missing, too
            outcome = f"not run: {error}"
        except Exception as error:
            traceback.print_exc()
            outcome, failed = f"FAILED: {type(error).__name__} {error}".split("\n")[0], failed + 1
        print(f"{about}: {outcome}", flush=True)
        rows.append(f"| {about} | {outcome} |")
    versions = ", ".join(f"{package} {version(package)}" for package in PACKAGES)
    RESULT.write_text(
        "# What other tools made of it\n\n"
        "Written by `cargo xtask interop`; not to be edited. The checks are in [check.py](check.py).\n\n"
        f"{datetime.date.today()}, Python {sys.version.split()[0]}, {versions}.\n\n"
        "| check | outcome |\n|---|---|\n" + "\n".join(rows) + "\n"
    )
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()

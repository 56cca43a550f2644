"""What each verb is told: one dataclass a verb, standard library and tyro only."""

import math
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Annotated, Literal

from tyro.conf import Fixed, Positional, Suppress, UseAppendAction, arg

from laformer.config import InferenceConfig, ModelConfig, TrainConfig
from pipelines.config import DataConfig, Folders, Profile, RestoreConfig


@dataclass(frozen=True, kw_only=True)
class PrepareJob:
    """Index photos into a manifest; a bad photo is a row with its reason.

    With --lq the photos are the gt of captured pairs. An lq has the name of its gt, in the same
    sub-folder; the suffix may be another. Where names differ, --match says how.
    """

    photos: Annotated[Positional[str], arg(metavar="PHOTOS")]
    """Folder or s3://bucket/prefix of clean photos."""
    lq: UseAppendAction[tuple[str, ...]] = ()
    """Folder or bucket of the lq of captured pairs; twice for a left and a right view."""
    match: Annotated[tuple[str, str] | None, arg(metavar="PATTERN NAME")] = None
    """Regular expression found in the path of a gt, and what its lq has instead: _GT_ _NOISY_."""
    scale: int = 1
    """Side of gt over side of lq."""
    profile: Profile = "keep"
    """Colour profiles: levels as they are stored, or turned into sRGB, here and in training."""
    tiles: str | None = None
    """Folder or s3://bucket/prefix for tile shards: the same pixels, decoded several times as fast.

    Training reads them instead of the photos; only what has no shard there yet is packed."""
    manifest: str | None = None
    """Where to write the manifest; $LAFORMER_STORE/manifest.parquet when not given."""
    holdout: float = 0.1
    """Fraction of the photos that training never sees."""

    def __post_init__(self) -> None:
        """Refuse fractions that are none, and what pairs nothing."""
        if not 0 <= self.holdout < 1:
            raise ValueError(f"holdout {self.holdout} is outside [0, 1); use for example 0.1")
        Folders(root=self.photos, lq_roots=self.lq, match=self.match, scale=self.scale)


@dataclass(frozen=True, kw_only=True)
class PreviewJob:
    """Show what training will see of some photos: one picture, a photo a row."""

    task: Annotated[Positional[str], arg(metavar="TASK")]
    """A name in TASKS."""
    photos: Annotated[Positional[str], arg(metavar="PHOTOS")]
    """Folder or s3://bucket/prefix of clean photos, or a manifest of photos or pairs."""
    target: str | None = None
    """The PNG file to write; preview-TASK.png when not given."""
    rows: int = 4
    """Photos shown, in the order of their names."""
    samples: int = 4
    """Degraded samples of each."""
    side_px: int = 256
    """Side of the crops in pixels."""
    seed: int = 0
    """Names the crops and the degradations; another seed shows others."""

    def __post_init__(self) -> None:
        """Refuse an empty sheet."""
        for name, most in {"rows": 100, "samples": 100, "side_px": 2048}.items():
            if not 1 <= getattr(self, name) <= most:
                raise ValueError(f"{name} {getattr(self, name)} is not 1 to {most}")
        if self.seed < 0:
            raise ValueError(f"seed {self.seed} is negative; use 0 or more")
        if self.target and not self.target.lower().endswith(".png"):
            raise ValueError(f"target {self.target} does not end in .png; the sheet is a PNG")


@dataclass(frozen=True, kw_only=True)
class TrainJob:
    """Train one network for one task; the same command again resumes."""

    task: Fixed[str]
    """A name in TASKS; a fact of the recipe."""
    model: ModelConfig
    """The network."""
    train: TrainConfig
    """The training."""
    data: DataConfig = field(default_factory=DataConfig)
    """The samples."""
    manifest: UseAppendAction[tuple[str, ...]] = ()
    """The photos or pairs, once for each source; $LAFORMER_STORE/manifest.parquet by default."""
    weight: UseAppendAction[tuple[int, ...]] = ()
    """How often each source is visited beside the others; all as often when not given."""
    name: str | None = None
    """Name of the run, and so of its checkpoints; the recipe's name when not given."""
    workers: int | tuple[int, int] | None = None
    """Training workers; one per GPU, or two on a machine without, when not given.

    Two numbers, least and most: hosts may come and go, and the run follows them."""
    candidate: bool = True
    """Whether the version that comes out is called the candidate of its task."""
    init: str | None = None
    """Model whose weights a new run starts from: name@alias, name/version, a checkpoint folder or
    a file model.safetensors, on this machine or as s3://bucket/folder.

    Random weights when not given."""
    init_partial: bool = False
    """Take from `init` the weights that fit, and start the others at random."""
    hang_s: float = 1800.0
    """Seconds without a finished step, thrice as many before the first, that end a worker.

    It is started again."""

    def __post_init__(self) -> None:
        """Refuse what no worker could run."""
        if self.init_partial and self.init is None:
            raise ValueError("init_partial takes part of a model; name it with --init MODEL")
        if self.hang_s <= 0:
            raise ValueError(f"hang_s {self.hang_s:g} is not positive; use for example 1800")
        if self.weight and min(self.weight) < 1:
            raise ValueError(
                f"weight {min(self.weight)} is less than 1; use whole numbers from 1 on"
            )
        if self.weight and len(self.weight) != max(1, len(self.manifest)):
            raise ValueError(
                f"{len(self.manifest)} manifests have {len(self.weight)} weights; "
                "give --weight once for each --manifest, in the same order"
            )
        least, most = self.workers if isinstance(self.workers, tuple) else (self.workers or 1,) * 2
        if self.workers == 0 or least < 1:
            raise ValueError(f"workers {self.workers} is less than 1; use at least 1")
        if least > most:
            raise ValueError(
                f"workers {least} to {most} is no range; use for example {most} {least}"
            )


@dataclass(frozen=True, kw_only=True)
class TuneJob:
    """Search for better values of a recipe; the same command again continues.

    Trials are runs of the recipe with other values. Each is one process, or with --workers 2 or
    more a training run of its own. --name names the search.
    """

    job: Annotated[TrainJob, arg(name="")]
    """What is trained."""
    space: str | None = None
    """What may change: a name in SPACES; by the size of the network when not given."""
    over: UseAppendAction[tuple[str, ...]] = ()
    """An entry of the space, once for each that may change: train.lr; all when none is given."""
    steps: int | None = None
    """Steps of a trial, its warm-up and stages shortened alike; the recipe's when not given."""
    trials: int = 16
    """Trials in all; more may be asked for later."""
    hours: float | None = None
    """Longest time of this call in hours."""
    concurrent: int | None = None
    """Trials at the same time; as many as the cluster has room for when not given."""
    stall: int | None = None
    """Trials in a row that bring nothing better, after which no new one begins."""
    search: Literal["optuna", "random", "grid"] = "optuna"
    """How values are chosen."""
    grid_points: int = 3
    """Values of a range in a grid."""
    scheduler: Literal["asha", "none", "pbt"] | None = None
    """Ends bad trials early (asha), none, or lets them go on from better ones (pbt).

    asha when not given, none for several objectives."""
    objectives: tuple[Literal["psnr", "params", "macs", "latency"], ...] = ("psnr",)
    """What is to be better; several of them give the trials that no other beats in all."""
    search_seed: int = 0
    """Names the choices of the search; --train.seed names samples and weights."""
    train_best: bool = False
    """Train the best values to the end of the recipe afterwards, as laformer train would."""
    report: bool = False
    """Write the page of what is stored, and search no further."""
    page: str | None = None
    """Where to write the HTML page; search.html beside the stored trials when not given."""

    def __post_init__(self) -> None:
        """Refuse what is no search."""
        for name in ("steps", "trials", "concurrent", "stall", "grid_points"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} {value} is less than 1; use at least 1")
        if self.hours is not None and self.hours <= 0:
            raise ValueError(f"hours {self.hours:g} is not positive; use for example 0.5")
        if "psnr" not in self.objectives or len(set(self.objectives)) < len(self.objectives):
            raise ValueError(
                f"objectives {' '.join(self.objectives)} do not name psnr and others once each; "
                "use for example --objectives psnr latency"
            )
        if len(self.objectives) > 1 and self.scheduler in ("asha", "pbt"):
            raise ValueError(
                f"scheduler {self.scheduler} compares trials by one number, but there are "
                f"objectives {' '.join(self.objectives)}; leave --scheduler out"
            )
        if "latency" in self.objectives and self.job.workers not in (None, 1):
            raise ValueError(
                "latency is measured by the one process of a small trial; "
                "leave --workers out, or ask for macs"
            )
        if isinstance(self.job.workers, tuple):
            raise ValueError(  # noqa: TRY004 - of the right type, but not for a search
                f"workers {self.job.workers[0]} to {self.job.workers[1]} cannot be added up for a "
                "search; use one number"
            )

    @property
    def ending(self) -> Literal["asha", "none", "pbt"]:
        """Return the scheduler that is used."""
        return self.scheduler or ("asha" if len(self.objectives) == 1 else "none")


@dataclass(frozen=True, kw_only=True)
class EvaluateJob:
    """Measure a model under named protocols."""

    model: str = ""
    """name@alias or name/version, a checkpoint folder or .safetensors file, or `input`: the input
    as it is, which a model has to beat. Scores are kept with a registered version."""
    benchmark: UseAppendAction[tuple[str, ...]] = ()
    """A benchmark by name, once for each; the held-out photos when none is given; `all` for all of
    the model's task that are below --data."""
    data: str | None = None
    """Folder that holds the benchmarks' folders (cbsd68, kodak24, ...)."""
    manifest: str | None = None
    """Manifest whose held-out photos are used; $LAFORMER_STORE/manifest.parquet by default."""
    out: str | None = None
    """Folder or bucket for scores.html with the best and the worst images, scores.json, and a
    Parquet file with the scores of all images for each benchmark."""
    lpips: bool = False
    """Measure LPIPS too; the package lpips is to be installed."""
    niqe: str | None = None
    """Measure NIQE too: its parameters, the authors' .mat or an .npz, or a folder of good photos.

    To a folder they are fitted, and kept in --out. The name of the score ends with their digest."""
    list: bool = False
    """Show every benchmark, the folders it expects, and which are below --data."""

    def __post_init__(self) -> None:
        """Refuse to measure nothing."""
        if not self.model and not self.list:
            raise ValueError("no model to measure; name one with --model, or see --list")


@dataclass(frozen=True, kw_only=True)
class PromoteJob:
    """Give the alias champion to a candidate that holds the gate, or back to the previous one."""

    name: Annotated[Positional[str], arg(metavar="NAME")]
    """Name of the registered model, for example laformer-denoise-gaussian."""
    benchmark: UseAppendAction[tuple[str, ...]] = ()
    """A benchmark on which both were measured, once for each; the held-out photos when none is."""
    data: str | None = None
    """Folder that holds the benchmarks' folders (cbsd68, kodak24, ...)."""
    manifest: str | None = None
    """Manifest whose held-out photos are looked at; $LAFORMER_STORE/manifest.parquet by default."""
    min_gain_db: float = 0.0
    """The gain over the champion must be above this in dB, with its whole 95 % interval."""
    seed_spread_db: float | None = None
    """Standard deviation in dB of a score over seeds, of which the gain must exceed 2.8 as well.

    When not given it is that of versions that differ in their seed alone, where there are any."""
    max_ms_per_megapixel: float | None = None
    """Longest median time of a megapixel of input on this machine, in ms; any when not given."""
    max_slowdown: float | None = None
    """Most times of the champion's median time, measured in turn with it; any when not given."""
    max_colour_shift: float = 4.0
    """Most levels of 255 by which a channel's mean may shift on clean photos."""
    again: bool = False
    """Promote a candidate although it was rolled back before."""
    rollback: bool = False
    """Return to the champion before this one; nothing is checked."""

    def __post_init__(self) -> None:
        """Refuse ceilings that nothing holds."""
        for name in ("max_ms_per_megapixel", "max_slowdown", "max_colour_shift"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name} {value:g} is not positive; use a number above 0")
        if not math.isfinite(self.min_gain_db):
            raise ValueError(f"min_gain_db {self.min_gain_db} is no number; use for example 0.05")
        if self.seed_spread_db is not None and not 0 <= self.seed_spread_db < math.inf:
            raise ValueError(f"seed_spread_db {self.seed_spread_db} is no spread; use 0 or more")
        if self.again and self.rollback:
            raise ValueError("rollback returns to an earlier champion; leave --again out")


@dataclass(frozen=True, kw_only=True)
class ModelsJob:
    """List the registered versions, or find where a restored photo comes from."""

    name: Annotated[Positional[str | None], arg(metavar="NAME")] = None
    """Name of a registered model; all when not given."""
    receipt: Annotated[tuple[str, str] | None, arg(metavar="TARGET KEY")] = None
    """A folder that laformer restore wrote to, and a photo below it: its way back to the commit."""
    json: bool = False
    """Print JSON for programs instead of a table."""


@dataclass(frozen=True, kw_only=True)
class RestoreJob:
    """Restore a photo, a folder or a bucket; the same command again continues.

    What became of each photo, and a report, is in TARGET/.laformer.
    """

    source: Annotated[Positional[str], arg(metavar="SOURCE")]
    """Photo, folder or s3://bucket/prefix to read, a quoted glob such as 'photos/**/*.jpg', or a
    manifest of laformer prepare."""
    target: Annotated[Positional[str], arg(metavar="TARGET")]
    """Folder or s3://bucket/prefix to write; same names, sub-folders kept."""
    model: str | None = None
    """name@alias, name/version or a checkpoint folder; the only champion when not given."""
    task: str | None = None
    """Instead of a model a task: denoise-gaussian. Its champion restores, or, where it has none
    yet, the weights that come with the package."""
    restore: Annotated[RestoreConfig, arg(name="")] = field(default_factory=RestoreConfig)
    """How the work is done."""
    inference: Annotated[InferenceConfig, arg(name="")] = field(default_factory=InferenceConfig)
    """How one image is restored."""
    compare: int = 0
    """Photos to show before and after on a page in the target, compare.html; none by default."""

    def __post_init__(self) -> None:
        """Refuse fewer than none, and two models."""
        if self.model and self.task:
            raise ValueError(
                f"--model {self.model} and --task {self.task} both say what restores; use one"
            )
        if not 0 <= self.compare <= 1000:
            raise ValueError(f"compare {self.compare} is not 0 to 1000; use for example 20")


@dataclass(frozen=True, kw_only=True)
class ExportJob:
    """Write a model for others: as a graph that runs without this project, or its weights."""

    target: Annotated[Positional[str], arg(metavar="TARGET")]
    """What to write on this machine: model.onnx, model.pt2 for torch.export.load, or a folder.

    The folder has the layout of the Hugging Face hub: config.json and model.safetensors."""
    model: str | None = None
    """name@alias, name/version or a checkpoint folder; the only champion when not given."""

    def __post_init__(self) -> None:
        """Refuse what no writer knows."""
        if "://" in self.target:
            raise ValueError(f"target {self.target} is no file of this machine; copy it afterwards")
        if PurePath(self.target).suffix not in (".onnx", ".pt2", ""):
            raise ValueError(
                f"target {self.target} ends neither in .onnx nor in .pt2; use one, or a folder "
                "without a suffix"
            )


@dataclass(frozen=True, kw_only=True)
class ReportJob:
    """Write one page about a training run, whether it runs, failed or is finished."""

    run: Annotated[Positional[str], arg(metavar="RUN")]
    """Name of the run, or its id in MLflow."""
    target: str | None = None
    """The HTML file to write; report-RUN.html when not given."""


@dataclass(frozen=True, kw_only=True)
class SubmitJob:
    """Run a verb on a cluster, over Ray's jobs API: laformer submit ... -- VERB ...

    The working tree goes along, but for what .gitignore names. The log is followed and the exit
    code is the verb's; Ctrl-C ends the following, not the job. The same command again follows the
    job while it runs, and starts it once more when it is over: training then resumes.
    """

    words: Suppress[tuple[str, ...]] = ()
    """The verb and what it is told, from behind the two dashes."""
    address: str | None = None
    """The cluster's dashboard, http://head:8265; $RAY_API_SERVER_ADDRESS when not given."""
    env: UseAppendAction[tuple[str, ...]] = ()
    """Name of a variable to hand on with its value here, once for each.

    Those that say where things are (LAFORMER_STORE, MLFLOW_TRACKING_URI, AWS_ENDPOINT_URL, ...) go
    along by themselves; secrets only when named, and they are kept in the job's record there."""
    name: str | None = None
    """Name of the job on the cluster; the verb and the run's name when not given."""
    follow: bool = True
    """Whether to follow the log until the job is over."""
    tree: str | None = None
    """Checkout to send; the one this command comes from when not given."""

    def __post_init__(self) -> None:
        """Refuse what would put a value on the command line."""
        for name in self.env:
            if not name.isidentifier():
                raise ValueError(
                    f"env {name.split('=')[0]} is not the plain name of a variable; set the "
                    "variable in this shell and give --env its name alone"
                )


@dataclass(frozen=True, kw_only=True)
class JobsJob:
    """List, show, follow or stop the jobs that a cluster was given."""

    action: Annotated[Positional[Literal["list", "show", "follow", "stop"]], arg(metavar="ACTION")]
    """list, show, follow or stop."""
    name: Annotated[Positional[str | None], arg(metavar="NAME")] = None
    """Name of the job: its id, without its number the last of that name, or the run's name."""
    address: str | None = None
    """The cluster's dashboard, http://head:8265; $RAY_API_SERVER_ADDRESS when not given."""

    def __post_init__(self) -> None:
        """Refuse an action on nothing."""
        if self.action != "list" and not self.name:
            raise ValueError(f"{self.action} needs the name of a job; see: laformer jobs list")


@dataclass(frozen=True, kw_only=True)
class DemoJob:
    """Everything once, on real photos: prepare, train, evaluate, promote, restore, one page."""

    photos: str | None = None
    """Folder or bucket of photos; scikit-image's own when not given."""
    recipe: str = "demo"
    """A name in RECIPES."""
    steps: int | None = None
    """Training steps; the recipe's when not given."""
    holdout: float = 0.3
    """Fraction of the photos that training never sees."""
    page: str | None = None
    """Where to write the HTML page; $LAFORMER_STORE/demo/demo.html when not given."""

    def __post_init__(self) -> None:
        """Refuse what a later part would refuse."""
        if self.steps is not None and self.steps < 1:
            raise ValueError(f"steps {self.steps} is less than 1; use at least 1")
        if not 0 < self.holdout < 1:
            raise ValueError(f"holdout {self.holdout} is outside (0, 1); use for example 0.3")

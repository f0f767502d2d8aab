"""Extractors: one line for each."""

from __future__ import annotations

from dataclasses import dataclass, replace

from rcdp_hpc.config.choices.choice import USER_CLASS, Choice, ChoiceTable


@dataclass(frozen=True)
class ExtractorChoice(Choice):
    """An extractor, with the facts that checks need before its class is imported.

    Attributes
    ----------
    trained : bool
        Gradient steps train the extractor with the readout, so that states change and cannot be cached.
    learned : bool
        The extractor is learned from training samples before the training, and then fixed.
    makes_sequences : bool
        The extractor computes the sequences that drive the reservoir; False if samples are cut into sequences.
    joins_features : bool
        The extractor appends features of the whole sample to the reservoir's states.
    reads_sequences : bool
        The extractor reads the sequences that ``reservoir.sequence`` cuts, and keeps their steps.
    """

    trained: bool = False
    learned: bool = False
    makes_sequences: bool = False
    joins_features: bool = False
    reads_sequences: bool = False


_PACKAGE = "rcdp_hpc.networks.extractors"
_COMPRESSION = ("extractor.components", "extractor.over")
_EXTRACTORS = (
    ExtractorChoice(
        "none", "none: the reservoir reads the sample as reservoir.sequence cuts it", f"{_PACKAGE}.none:NoExtractor"
    ),
    ExtractorChoice(
        "kernels",
        "random convolution kernels of series; their features follow the reservoir's states",
        f"{_PACKAGE}.kernels:KernelExtractor",
        ("extractor.kernels", "extractor.kernel_inputs", "extractor.kernel_weights"),
        learned=True,
        joins_features=True,
    ),
    ExtractorChoice(
        "dictionary",
        "dictionary of image patches, learned without labels before the training",
        f"{_PACKAGE}.dictionary:DictionaryExtractor",
        (
            "extractor.sequence",
            *(
                f"extractor.{name}"
                for name in (
                    *("patch", "atoms", "stride", "pool", "threshold", "mirror", "power"),
                    *("learning", "patches", "precision"),
                )
            ),
        ),
        learned=True,
        makes_sequences=True,
    ),
    ExtractorChoice(
        "wavelet_packets",
        "wavelet packets of the rows of images, or of series along time; a fixed transform, nothing is learned",
        f"{_PACKAGE}.wavelet_packets:WaveletPacketExtractor",
        ("extractor.wavelet", "extractor.levels", "extractor.axis"),
        makes_sequences=True,
    ),
    ExtractorChoice(
        "pca",
        "principal components of the training samples, learned without labels before the training",
        f"{_PACKAGE}.pca:PcaExtractor",
        (*_COMPRESSION, "extractor.fit_rows", "extractor.whiten"),
        learned=True,
        makes_sequences=True,
        reads_sequences=True,
    ),
    ExtractorChoice(
        "random_projection",
        "random projections, a fixed matrix that follows from reservoir.seed; nothing is learned",
        f"{_PACKAGE}.random_projection:RandomProjectionExtractor",
        (*_COMPRESSION, "extractor.projection"),
        makes_sequences=True,
        reads_sequences=True,
    ),
    ExtractorChoice(
        "selection",
        "some of the features, those with which a ridge regression of training samples is best",
        f"{_PACKAGE}.selection:SelectionExtractor",
        (*_COMPRESSION, "extractor.fit_rows", "extractor.method"),
        learned=True,
        makes_sequences=True,
        reads_sequences=True,
    ),
    ExtractorChoice(
        "pretrained",
        "the trained extractor of another model (extractor.model); its weights do not change",
        f"{_PACKAGE}.pretrained:PretrainedExtractor",
        tuple(f"extractor.{name}" for name in ("model", "model_kind", "model_shape", "model_sha256")),
        learned=True,
        makes_sequences=True,
    ),
    ExtractorChoice(
        "convolution",
        "convolutions of images, trained with the readout",
        f"{_PACKAGE}.convolution:ConvolutionExtractor",
        (
            "extractor.sequence",
            *(f"extractor.{name}" for name in ("channels", "residual", "activation", "whitening")),
        ),
        trained=True,
        makes_sequences=True,
    ),
)
_USER_EXTRACTOR = ExtractorChoice(
    USER_CLASS, "a trained extractor of your own (docs/extending.md)", trained=True, makes_sequences=True
)

# Value of extractor.model_kind until the model file is read.
UNREAD_MODEL = "unread"
MODEL_EXTRACTORS = ChoiceTable(
    "extractor.model_kind",
    (
        Choice(UNREAD_MODEL, "the model has not been read yet"),
        *(Choice(choice.name, choice.meaning) for choice in _EXTRACTORS if choice.trained),
    ),
    user_class=_USER_EXTRACTOR.meaning,
)

EXTRACTORS = ChoiceTable("extractor.kind", _EXTRACTORS, user_class=_USER_EXTRACTOR.meaning)


def extractor_choice(name: str) -> ExtractorChoice:
    """Return the facts about a value of ``extractor.kind``; of a user's class, those that hold for every such class."""
    return next((choice for choice in _EXTRACTORS if choice.name == name), replace(_USER_EXTRACTOR, name=name))

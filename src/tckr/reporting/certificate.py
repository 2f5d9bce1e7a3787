"""Draw the certificate that goes out with a release: one self-contained page that prints to two sheets."""

from typing import NamedTuple

from tckr.audit.attack_results import Group, Tpr
from tckr.release.certificate import Certificate
from tckr.release.policy import TITLES
from tckr.release.rows import Row
from tckr.reporting.findings import copies
from tckr.reporting.report import limit, templates
from tckr.reporting.roc import draw_roc

# Attacks of the row on images that look up the nearest released one, and what they measure by.
NEAREST = {
    "nearest": "By the features of a public encoder",
    "nearest_pixels": "By pixels, within the class",
}


VACUOUS = 0.99  # AUC from which a limit is none in practice
LISTED = 12  # files; the manifest has all


class Cell(NamedTuple):
    """One of the figures at the top of the page."""

    what: str
    figure: str
    means: str


def write_certificate(certificate: Certificate) -> str:
    """Return the certificate as HTML. It follows from the certificate alone, so that anybody can draw it again.

    Args:
        certificate: with the hashes of the files.
    """
    rows = certificate.identifiability.rows
    going = [row for row in rows.values() if row.goes]
    return templates("certificate.html").render(
        context=certificate.context,
        data=certificate.data,
        found=certificate.identifiability,
        use=certificate.use,
        made=certificate.governance.made,
        needs_private_data=certificate.governance.needs_private_data,
        proven=certificate.proven,
        titles=TITLES,
        rows=rows,
        going=going,
        cells=cells(certificate),
        scopes=list(dict.fromkeys(row.scope for row in going if row.scope)),
        listed=dict(list(certificate.data.files.items())[:LISTED]),
        sentences=sentences(certificate),
        picture=draw_roc(
            {row.thing: (row.title, row.roc) for row in going if row.roc is not None},
            certificate.identifiability.limit,
        ),
        neighbours=neighbours(certificate),
        neighbours_fpr=next(iter(rows.values())).primary.tpr.fpr,
        groups=[(row, group) for row in going if (group := row.worst_group) is not None],
        weakest=sorted(
            (
                (value, name)
                for name, value in certificate.use.per_class.items()
                if value is not None
            )
        )[:3],
    )


def cells(certificate: Certificate) -> list[Cell]:
    """Return the four figures that are read first: what is proven, found, found of the most exposed, and what it is good for."""
    proven, found, use = certificate.proven, certificate.identifiability, certificate.use
    shown = [
        Cell("Formal guarantee", "none", "nothing limits an attack that nobody tried")
        if proven is None
        else Cell(
            "Formal guarantee",
            f"epsilon {_short(proven.epsilon)}",
            f"no attack is right in more than {limit(proven.auc)} of 100 comparisons",
        )
    ]
    if (worst := worst_row(certificate)) is None:
        shown.append(Cell("Strongest attack tried", "not measured", "no attack could see a leak"))
    else:
        shown.append(
            Cell(
                "Strongest attack tried",
                f"{100 * worst.primary.auc.value:.1f} of 100",
                f"comparisons are right; up to {100 * found.upper_auc[worst.thing]:.1f} cannot be excluded; 50 is guessing",
            )
        )
    if (exposed := most_exposed(certificate)) is not None:
        row, group = exposed
        shown.append(
            Cell(
                "Most exposed group",
                f"{100 * group.auc.value:.1f} of 100",
                f"{group.name}: up to {100 * group.auc.high:.1f} cannot be excluded ({row.title})",
            )
        )
    if use.accuracy is not None and use.accuracy.value is not None:
        shown.append(
            Cell(
                "Use: accuracy",
                f"{100 * use.accuracy.value:.1f} %",
                f"of the student, on {use.n_test:,} private test images",
            )
        )
    return shown


def _short(epsilon: float) -> str:
    return f"{epsilon:,.0f}" if epsilon >= 100 else f"{epsilon:.3g}"


def _people(row: Row) -> str:
    people = row.primary.auc.n_clusters
    if people is None:
        return ""
    return f", of {people:,} people, whose images stand or fall together"


def _left_to_decide(certificate: Certificate) -> str:
    proven = certificate.proven
    if proven is None:
        return (
            "whether those who get this may be trusted not to try harder than the attacks below, since no proof stops them. If"
            " not, have the set made by an arm under differential privacy."
        )
    if proven.auc > VACUOUS:
        return (
            "whether what was measured is low enough. The limit that is proven is so high that it excludes next to nothing:"
            " take this for a release without a guarantee."
        )
    return "whether that limit is low enough. It holds for everybody who gets this, whatever else they know, now and later."


def _prompts(certificate: Certificate) -> str:
    if "prompts" not in certificate.context.things:
        return "no caption is in it either."
    if certificate.proven is not None:
        return "its prompts were made under differential privacy."
    return "its prompts are captions of private images, unless they are bare class names."


def worst_row(certificate: Certificate) -> Row | None:
    """Return the released thing of which most may be found; None where nothing was measured."""
    uppers = certificate.identifiability.upper_auc
    if not uppers:
        return None
    return certificate.identifiability.rows[max(uppers, key=uppers.__getitem__)]


def most_exposed(certificate: Certificate) -> tuple[Row, Group] | None:
    """Return the group whose AUC may be largest, and the released thing that gives it away; None without groups."""
    rows = certificate.identifiability.rows.values()
    found = [(row, group) for row in rows if row.goes and (group := row.worst_group) is not None]
    return max(found, key=lambda pair: pair[1].auc.high, default=None)


def sentences(certificate: Certificate) -> list[str]:
    """Return what an officer needs who reads nothing else: what is released, may it go, why, and what he has to decide."""
    context, data, proven = certificate.context, certificate.data, certificate.proven
    what = " and ".join(TITLES[thing] for thing in context.things)
    images = f" The set holds {data.images:,} synthetic images." if data.images else ""
    held = "; ".join(f"{one.title} ({one.why.split(':')[0]})" for one in context.withheld)
    said = [
        f"Released: {what}.{images} They were made from {data.members:,} private images. None of these is in this folder, nor"
        f" the name of a file or a list of members; {_prompts(certificate)}"
        + (f" Withheld: {held}." if held else ""),
    ]
    if proven is None:
        said.append(
            "There is no formal guarantee: what is known of the leak is what the attacks below measured, and a better"
            " attack may find more."
        )
    else:
        said.append(
            f"Proven: whoever tries to tell whether one image was among the private ones is right in at most"
            f" {limit(proven.auc)} of 100 comparisons, whatever he knows or tries (epsilon {_short(proven.epsilon)}, delta"
            f" {proven.delta:.2g}); 50 would be guessing."
            + (
                " It is the proof for one image: a person with several is protected less."
                if data.unit == "person"
                else ""
            )
        )
    if (row := worst_row(certificate)) is not None:
        upper = certificate.identifiability.upper_auc[row.thing]
        said.append(
            f"Measured: the attacker who finds most in what goes ({row.title}) ranks a private image above an outside one"
            f" in {100 * row.primary.auc.value:.1f} of 100 comparisons, and up to {100 * upper:.1f} cannot be excluded; 50 is"
            f" guessing, 100 is certainty. {row.n_members:,} private and {row.n_non_members:,} outside images were tried{_people(row)}."
        )
    said.append(f"For you to decide: {_left_to_decide(certificate)}")
    return said


def neighbours(certificate: Certificate) -> list[str]:
    """Return how many members come near to a released image, against the same count for the holdout, in words.

    The distance is the one that as many of the holdout come nearer to a released image than as the headline false-positive rate
    says: of a release that copies nobody, as many members do.
    """
    row = certificate.identifiability.rows.get("images")
    if row is None or not row.goes:
        return []
    counted = [
        f"{NEAREST[one.name]}: {_counted(one.tpr)}" for one in row.attacks if one.name in NEAREST
    ]
    found = copies(certificate.identifiability.extraction)
    return counted if found is None else [*counted, found.finding]


def _counted(tpr: Tpr) -> str:
    if tpr.value is None or tpr.low is None or tpr.high is None:
        return "too few images to count."
    more = "more than chance allows" if tpr.low > tpr.fpr else "no more than chance allows"
    return (
        f"so near are {tpr.true_positives:,} of {tpr.n_members:,} private images ({100 * tpr.value:.1f} %,"
        f" {100 * tpr.low:.1f} to {100 * tpr.high:.1f}), and {tpr.false_positives:,} of {tpr.n_non_members:,} outside ones"
        f" ({100 * tpr.realised_fpr:.1f} %): {more}."
    )

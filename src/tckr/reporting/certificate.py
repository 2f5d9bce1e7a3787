"""Draw the certificate that goes out with a release: one self-contained page that prints to two sheets."""

from tckr.release.certificate import Certificate
from tckr.release.policy import TITLES
from tckr.reporting.report import templates
from tckr.reporting.roc import draw_roc

# Attacks of the row on images that look up the nearest released one, and what they measure by.
NEAREST = {
    "nearest": "By the features of a public encoder",
    "nearest_pixels": "By pixels, within the class",
}


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
        sentences=sentences(certificate),
        picture=draw_roc(
            {row.thing: (row.title, row.roc) for row in going if row.roc is not None},
            certificate.identifiability.limit,
        ),
        neighbours=neighbours(certificate),
        groups=[(row, group) for row in going if (group := row.worst_group) is not None],
        weakest=sorted(
            (
                (value, name)
                for name, value in certificate.use.per_class.items()
                if value is not None
            )
        )[:3],
    )


def sentences(certificate: Certificate) -> list[str]:
    """Return what an officer needs who reads nothing else: what is released, may it go, and why."""
    context, data, proven = certificate.context, certificate.data, certificate.proven
    found = certificate.identifiability
    what = " and ".join(TITLES[thing] for thing in context.things)
    images = f" The set holds {data.images:,} synthetic images." if data.images else ""
    said = [
        f"Released: {what}.{images} They were made from {data.members:,} private images, none of which is in this"
        " folder; no caption, name of a file or list of members is in it either.",
        f"It may go under the policy “{context.policy_name}”: every clause of it holds (table on the next sheet)."
        + _withheld(certificate),
    ]
    if proven is None:
        said.append(
            "There is no formal guarantee: what is known of the leak is what the attacks below measured, and a better"
            " attack may find more."
        )
    else:
        said.append(
            f"Proven: whoever tries to tell whether one image was among the"
            f" private ones is right in at most {100 * proven.auc:.1f} of 100 comparisons, whatever the attack"
            f" (epsilon {proven.epsilon:.3g}, delta {proven.delta:.2g}); 50 would be guessing."
        )
    if found.upper_auc:
        name = max(found.upper_auc, key=found.upper_auc.__getitem__)
        row = found.rows[name]
        said.append(
            f"Measured: the attacker who finds most in what goes ({row.title}) ranks a private image above a strange one"
            f" in {100 * row.primary.auc.value:.1f} of 100 comparisons, and up to {100 * found.upper_auc[name]:.1f} cannot"
            f" be excluded; 50 is guessing, 100 is certainty. {row.n_members:,} private and {row.n_non_members:,} strange"
            " images were tried."
        )
    if certificate.use.accuracy is not None and certificate.use.accuracy.value is not None:
        said.append(
            f"Use: the student classifies {100 * certificate.use.accuracy.value:.1f} % of {certificate.use.n_test:,}"
            " private test images correctly. It knows its classes alone, and pictures like theirs."
        )
    return said


def neighbours(certificate: Certificate) -> list[str]:
    """Return how near the released images come to members, against the same count for the holdout, in words.

    The distance is the one that as many of the holdout come nearer to a released image than the headline false-positive rate says:
    what a release that copies nobody does to members and holdout alike.
    """
    row = certificate.identifiability.rows.get("images")
    if row is None or not row.goes:
        return []
    said = []
    for attack in (one for one in row.attacks if one.name in NEAREST):
        tpr, measure = attack.tpr, NEAREST[attack.name]
        if tpr.value is None or tpr.low is None or tpr.high is None:
            said.append(f"{measure}: too few images to count at {100 * tpr.fpr:g} %.")
            continue
        said.append(
            f"{measure}: a released image lies closer than a distance that {tpr.false_positives:,} of {tpr.n_non_members:,} strange"
            f" images ({100 * tpr.realised_fpr:.1f} %) reach, to {tpr.true_positives:,} of {tpr.n_members:,} private ones"
            f" ({100 * tpr.value:.1f} %, interval {100 * tpr.low:.1f} to {100 * tpr.high:.1f}): "
            + (
                "more often than to strange ones."
                if tpr.low > tpr.fpr
                else "no more often than chance allows."
            )
        )
    return said


def _withheld(certificate: Certificate) -> str:
    held = [f"{one.title} ({one.why})" for one in certificate.context.withheld]
    return f" Withheld: {'; '.join(held)}." if held else ""

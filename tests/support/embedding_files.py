"""Small shards of embeddings, and what a folder of them holds."""

from wordmask.collection.embedding import EmbeddingSettings

SETTINGS = EmbeddingSettings(batch=2, per_part=3)


def files_in(out):
    """Every file but what says who has the folder; of checksums the lines, whose order is that of the work."""
    found = {}
    for path in sorted(out.rglob("*")):
        if path.is_file() and ".wordmask" not in path.parts:
            content = path.read_bytes()
            found[str(path.relative_to(out))] = set(content.splitlines()) if path.name == ".checksums" else content
    return found

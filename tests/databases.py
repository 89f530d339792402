"""A server of PostgreSQL whose new databases have our tables."""

import pytest

from app.core import db as database
from app.core import migrations, settings
from app.ops.embedded.postgres import Postgres


def fill_template(server: Postgres) -> None:
    """Put our tables into `template1`, with the application's rights on them."""
    template = database.make_engine(server.url.replace("@/etude?", "@/template1?"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DATABASE_URL", server.app_url)
        settings.get.cache_clear()
        migrations.upgrade(template)
    settings.get.cache_clear()
    template.dispose()
    # A first connection writes down what the catalogues say, which each copy then has as well.
    with template.connect():
        pass
    template.dispose()

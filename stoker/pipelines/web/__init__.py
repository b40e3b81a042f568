"""A polite web client with limits: robots.txt, opt-outs, rates per host, sizes, deadlines, public addresses only.

``client`` fetches a URL under the rules of ``policy``. ``robots`` and ``opt_out`` read what site owners allow,
``http`` makes single requests, ``pages`` parses HTML, ``crawl`` follows the links of a site.
"""

from typing import TYPE_CHECKING

from stoker.old_paths import moved_names

if not TYPE_CHECKING:  # they have no types under their old paths
    _MOVED = {
        "Fetched": "stoker.pipelines.web.policy",
        "Transient": "stoker.pipelines.web.policy",
        "Web": "stoker.pipelines.web.client",
    }
    __getattr__ = moved_names(__name__, _MOVED)

"""The polite, bounded way to the web: what is fetched, how fast, how long, and from where not.

``client`` answers a URL by the rules of ``policy``. ``robots`` and ``opt_out`` are what owners allow, ``http`` makes
one bounded request at a time, ``pages`` reads HTML, ``crawl`` follows the links of a site.
"""

"""How every connection of a store behaves, whatever the server's or the database's own settings are."""

from __future__ import annotations

#: A generic plan is right for each of our statements and saves planning it again;
#: the tables are always read by their keys, also while statistics still call them empty.
SETTINGS = (
    "SET synchronous_commit = off; SET standard_conforming_strings = on; SET default_transaction_isolation ="
    " 'read committed'; SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off; SET enable_hashjoin = off;"
    " SET enable_mergejoin = off; SET jit = off;"
    " SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0; SET lock_timeout = '20s';"
)

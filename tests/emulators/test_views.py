"""The views, compared with the same answers in plain Python."""

from tests.emulators.shop import Shop


def test_try(shop: Shop) -> None:
    for name in (
        "orders",
        "orders_deduplicated",
        "orders_all",
        "orders_current",
        "stock_levels",
        "user_sessions",
        "dead_letter_summary",
        "stock_changes",
    ):
        print(name, shop.query(f"SELECT COUNT(*) AS n FROM {name}"))
    print(
        {k: len(v) for k, v in shop.live.items()},
        {k: len(v) for k, v in shop.historical.items()},
        len(shop.dead_letters),
    )
    print(shop.query("select * from user_sessions limit 2"), shop.query("select * from dead_letter_summary limit 3"))
    print(shop.query("select extras from orders where extras is not null limit 2"))

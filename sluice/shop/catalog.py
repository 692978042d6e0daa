"""Products, customers' cities and devices of the simulated shop: the tables behind `sluice.shop.generator`."""

from decimal import Decimal
from typing import Literal, NamedTuple

type Platform = Literal["web", "mobile", "tablet"]


class Product(NamedTuple):
    """One article; `price` is per piece, with two decimals."""

    id: str
    name: str
    price: Decimal


class City(NamedTuple):
    """A city of customers; `streets` take a house number, `warehouse` is the id of the nearest warehouse."""

    name: str
    country: str
    warehouse: str
    streets: tuple[str, ...]


class Device(NamedTuple):
    """A device of a visitor; `share` is its weight among the devices of the same table."""

    platform: Platform
    share: int
    user_agent: str


# Best sellers first: `sluice.shop.generator` sells the first most often.
PRODUCTS = tuple(
    Product(f"SKU-{number}", name, Decimal(price))
    for number, (name, price) in enumerate(
        (
            ("USB-C Charging Cable 2 m", "12.90"),
            ("Cotton T-Shirt, Black", "19.95"),
            ("Stainless Steel Water Bottle 750 ml", "24.90"),
            ("Wireless Earbuds", "79.00"),
            ("Ceramic Coffee Mug 350 ml", "11.50"),
            ("Whole Bean Espresso 1 kg", "18.49"),
            ("Running Socks, 3 Pairs", "16.99"),
            ("Yoga Mat 6 mm", "34.95"),
            ("Phone Case, Clear", "14.99"),
            ("LED Desk Lamp", "42.00"),
            ("Dotted Notebook A5", "9.80"),
            ("Bamboo Toothbrush, 4 Pieces", "8.99"),
            ('Laptop Sleeve 14"', "29.90"),
            ("Bluetooth Speaker", "59.99"),
            ("Mechanical Keyboard", "109.00"),
            ("Wireless Mouse", "39.99"),
            ("Cast Iron Skillet 26 cm", "47.50"),
            ("Chef's Knife 20 cm", "64.90"),
            ("French Press 1 l", "32.95"),
            ("Linen Bed Sheet 160x200", "89.00"),
            ("Down Pillow 60x60", "45.00"),
            ("Scented Candle, Fig", "22.50"),
            ("Hooded Sweatshirt, Grey", "54.95"),
            ("Slim Fit Jeans", "69.95"),
            ("Trail Running Shoes", "129.00"),
            ("Waterproof Jacket", "149.95"),
            ("Hiking Backpack 28 l", "99.90"),
            ("Two-Person Tent", "219.00"),
            ("Sleeping Bag -5 °C", "134.50"),
            ("Adjustable Dumbbell 24 kg", "189.00"),
            ("Smartwatch", "249.00"),
            ('E-Reader 7"', "169.00"),
            ('27" 4K Monitor', "379.00"),
            ("Standing Desk 140 cm", "429.00"),
            ("Ergonomic Office Chair", "349.00"),
            ("Robot Vacuum", "499.00"),
            ("Espresso Machine", "649.00"),
            ("Noise-Cancelling Headphones", "329.00"),
            ("Folding Bicycle", "899.00"),
            ("Gift Wrap Ribbon 10 m", "3.25"),
        ),
        start=1001,
    )
)

CITIES = (
    City("Berlin", "Germany", "WH-LEJ", ("Torstraße {}", "Kastanienallee {}", "Sonnenallee {}")),
    City("München", "Germany", "WH-LEJ", ("Leopoldstraße {}", "Schellingstraße {}")),
    City("Wien", "Austria", "WH-LEJ", ("Mariahilfer Straße {}", "Neubaugasse {}")),
    City("Zürich", "Switzerland", "WH-LEJ", ("Langstrasse {}", "Seefeldstrasse {}")),
    City("Kraków", "Poland", "WH-LEJ", ("ul. Długa {}", "ul. Karmelicka {}")),
    City("København", "Denmark", "WH-LEJ", ("Nørrebrogade {}", "Istedgade {}")),
    City("Paris", "France", "WH-MAD", ("{} rue de Charonne", "{} avenue d'Italie")),
    City("Lyon", "France", "WH-MAD", ("{} cours Gambetta", "{} rue Garibaldi")),
    City("Madrid", "Spain", "WH-MAD", ("Calle de Alcalá {}", "Calle de Fuencarral {}")),
    City("Lisboa", "Portugal", "WH-MAD", ("Avenida da Liberdade {}", "Rua da Prata {}")),
    City("São Paulo", "Brazil", "WH-MAD", ("Rua Augusta, {}", "Avenida Paulista, {}")),
    City("Milano", "Italy", "WH-MAD", ("Via Torino {}", "Corso Buenos Aires {}")),
    City("London", "United Kingdom", "WH-CVG", ("{} Kingsland Road", "{} Brick Lane")),
    City("Dublin", "Ireland", "WH-CVG", ("{} Camden Street", "{} Drumcondra Road")),
    City("New York", "United States", "WH-CVG", ("{} Bedford Avenue", "{} Amsterdam Avenue")),
    City("Chicago", "United States", "WH-CVG", ("{} N Milwaukee Ave", "{} W Division St")),
    City("Toronto", "Canada", "WH-CVG", ("{} Queen Street W", "{} Ossington Avenue")),
    City("東京", "Japan", "WH-CVG", ("渋谷区神宮前{}", "世田谷区太子堂{}")),
)

_WEBKIT = "AppleWebKit/537.36 (KHTML, like Gecko)"
_SAFARI = "AppleWebKit/605.1.15 (KHTML, like Gecko)"
_SAFARI_MOBILE = "Mobile/15E148 Safari/604.1"
_SAMSUNG = "SamsungBrowser/29.0"
_WINDOWS = "Windows NT 10.0; Win64; x64"
_MAC = "Macintosh; Intel Mac OS X 10_15_7"
_ANDROID = "Linux; Android 10; K"
_IPHONE = "iPhone; CPU iPhone OS 18_7 like Mac OS X"
_IPAD = "iPad; CPU OS 18_7 like Mac OS X"

DEVICES = (
    Device("web", 24, f"Mozilla/5.0 ({_WINDOWS}) {_WEBKIT} Chrome/150.0.0.0 Safari/537.36"),
    Device("web", 8, f"Mozilla/5.0 ({_WINDOWS}) {_WEBKIT} Chrome/150.0.0.0 Safari/537.36 Edg/150.0.0.0"),
    Device("web", 8, f"Mozilla/5.0 ({_MAC}) {_WEBKIT} Chrome/149.0.0.0 Safari/537.36"),
    Device("web", 8, f"Mozilla/5.0 ({_MAC}) {_SAFARI} Version/26.4 Safari/605.1.15"),
    Device("web", 4, f"Mozilla/5.0 ({_WINDOWS}; rv:151.0) Gecko/20100101 Firefox/151.0"),
    Device("web", 2, "Mozilla/5.0 (X11; Linux x86_64; rv:151.0) Gecko/20100101 Firefox/151.0"),
    Device("mobile", 20, f"Mozilla/5.0 ({_IPHONE}) {_SAFARI} Version/26.4 {_SAFARI_MOBILE}"),
    Device("mobile", 16, f"Mozilla/5.0 ({_ANDROID}) {_WEBKIT} Chrome/150.0.0.0 Mobile Safari/537.36"),
    Device("mobile", 4, f"Mozilla/5.0 ({_ANDROID}) {_WEBKIT} {_SAMSUNG} Chrome/136.0.0.0 Mobile Safari/537.36"),
    Device("tablet", 3, f"Mozilla/5.0 ({_ANDROID}) {_WEBKIT} Chrome/150.0.0.0 Safari/537.36"),
    Device("tablet", 3, f"Mozilla/5.0 ({_IPAD}) {_SAFARI} CriOS/150.0.7300.40 {_SAFARI_MOBILE}"),
)

_GOOGLEBOT = "compatible; Googlebot/2.1; +http://www.google.com/bot.html"
_BINGBOT = "compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm"

BOTS = (
    Device(
        "mobile",
        6,
        f"Mozilla/5.0 (Linux; Android 6.0.1; Nexus 5X Build/MMB29P) {_WEBKIT} Chrome/150.0.0.0 Mobile "
        f"Safari/537.36 ({_GOOGLEBOT})",
    ),
    Device("web", 2, f"Mozilla/5.0 {_WEBKIT[:-1]}; {_GOOGLEBOT}) Chrome/150.0.0.0 Safari/537.36"),
    Device("web", 2, f"Mozilla/5.0 {_WEBKIT[:-1]}; {_BINGBOT}) Chrome/136.0.0.0 Safari/537.36"),
    Device("web", 1, "Mozilla/5.0 (compatible; AhrefsBot/7.0; +http://ahrefs.com/robot/)"),
)

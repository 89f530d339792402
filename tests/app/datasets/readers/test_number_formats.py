"""Number formats: what Excel shows of a number, worked out by hand from ECMA-376."""

import pytest

from app.datasets.readers import number_formats
from app.datasets.readers.number_formats import Shown, of_code


@pytest.mark.parametrize(
    ("code", "value", "expected"),
    [
        ("0.0%", 0.075, "7.5%"),
        ("0.00%", 0.1, "10.00%"),
        ("0%", 0.285, "29%"),
        ("00000", 7, "00007"),
        ('0" mg"', 5, "5 mg"),
        ('General" mg"', 5, "5 mg"),
        ('"W-"000', 12, "W-012"),
        ("0\\:00", 1230, "12:30"),
        ("+00 00 000000", 4930123456, "+49 30 123456"),
        ("(000) 000-0000", 5551234567, "(555) 123-4567"),
        ("#,##0", 12500, "12,500"),
        ("#,##0.00", 1234567.891, "1,234,567.89"),
        ('0.0,," M"', 12345678, "12.3 M"),
        ("0.##", 5, "5."),
        ("#", 0, ""),
        ("0.00", 1.005, "1.01"),
        ("0.00", -0.001, "0.00"),
        # Sections: positive; negative; zero, and by conditions of their own.
        ('#,##0.00 "€";[Red]-#,##0.00 "€"', -12.5, "-12.50 €"),
        ("#,##0.00_);(#,##0.00)", -4, "(4.00)"),
        ('0" mg";;"none"', 0, "none"),
        ("[<1]0.00;0", 0.25, "0.25"),
        ("[<1]0.00;0", 5, "5"),
        ('[=1]0" day";0" days"', 1, "1 day"),
        ('[=1]0" day";0" days"', 4, "4 days"),
        (";;;", 3, ""),
        # Currencies with a locale, and accounting's filled columns.
        ("[$€-407] #,##0.00", 12, "€ 12.00"),
        ('_-* #,##0.00 "€"_-;-* #,##0.00 "€"_-;_-* "-"?? "€"_-;_-@_-', 1234.5, "1,234.50 €"),
        ('_-* #,##0.00 "€"_-;-* #,##0.00 "€"_-;_-* "-"?? "€"_-;_-@_-', -3, "-3.00 €"),
        # Powers and fractions.
        ("0.00E+00", 123456789, "1.23E+08"),
        ("##0.0E+0", 12345, "12.3E+3"),
        ("0.0E+0", 9.99, "1.0E+1"),
        ("# ?/?", 0.75, "3/4"),
        ("# ?/8", 2.125, "2 1/8"),
        ("# ?/?", 3, "3"),
        ("?/?", 1.5, "3/2"),
        # Days and times; 60 is the day that 1900 did not have.
        ("DD.MM.YYYY", 46461, "15.03.2027"),
        ("TT.MM.JJJJ", 46461, "15.03.2027"),
        ("T. MMM JJ hh:mm", 46461.5, "15. Mar 27 12:00"),
        ("jj/mm/aaaa", 46461, "15/03/2027"),
        ("Standard", 12.5, "12.5"),
        ("d/m/yyyy", 46461, "15/3/2027"),
        ("yyyy\\-mm\\-dd;@", 46461, "2027-03-15"),
        ("yyyy-mm-dd", 60, "1900-02-29"),
        ("d mmm yyyy h:mm", 46539.60416666666, "1 Jun 2027 14:30"),
        ("[$-407]d. mmmm yyyy", 46174, "1. Juni 2026"),
        ("[$-40C]d mmm yyyy", 46188, "15 juin 2026"),
        ("[$-40C]d mmm yyyy", 46218, "15 juil. 2026"),
        ("[$-fr-FR]ddd d mmm", 46054, "dim. 1 févr."),
        ("[$-410]ddd d mmm yyyy", 46188, "lun 15 giu 2026"),
        ("[$-407]ddd d. mmm", 46083, "Mo 2. Mrz"),
        ("[$-413]ddd d mmm", 46082, "zo 1 mrt"),
        ("ddd d mmm", 46082, "Sun 1 Mar"),
        ("[$-409]dddd, mmmm d, yyyy", 46174, "Monday, June 1, 2026"),
        ("hh:mm", 0.375, "09:00"),
        ("h:mm AM/PM", 0.2951388888888889, "7:05 AM"),
        ("[h]:mm", 1.260416666666667, "30:15"),
        ("[mm]:ss", 0.05, "72:00"),
        ("mm:ss.0", 0.0012345, "01:46.7"),
        ("dd/mm/yyyy hh:mm:ss", 46461.9999999, "16/03/2027 00:00:00"),
        ("General", 0.1 + 0.2, "0.3"),
        ("General", 1 / 3, "0.333333333"),
        ("General", -12345.678912345, "-12345.67891"),
        ("General", 1.5e-9, "1.5E-09"),
    ],
)
def test_what_a_number_looks_like(code: str, value: float, expected: str) -> None:
    assert of_code(code).show(value)[:2] == (expected, True)


@pytest.mark.parametrize(
    ("code", "value", "expected"),
    [
        ("0", 9007199254740992.0, "9007199254740990"),  # Excel keeps fifteen digits
        ("General", 4930123456789.0, "4930123456789"),  # 4.93E+12 where the column is narrow
        ("yyyy-mm-dd", -1, "-1"),  # Excel shows ######
        ("[$-411]ggge", 46461, "46461"),
        ("[$-40A]d mmm yyyy", 46188, "15 jun 2026"),  # with a point in some versions
        ("[$-415]ddd", 46188, "pon"),
        ("0 kg", 5, "5 kg"),  # letters stand in quotes
        ("rrrr", 46461, "rrrr"),
        ("[DBNum1]0", 5, "5"),
        ("[>5]0;[>3]0.0", 1, "1"),  # no section is meant for it
        ("[>5]0;0.0", -2, "-2.0"),
        ("x" * 500, 1, "x" * 400),
    ],
)
def test_what_a_file_does_not_settle_is_unsure(code: str, value: float, expected: str) -> None:
    shown = of_code(code).show(value)
    assert not shown.is_sure
    assert shown.text == expected or code == "[$-411]ggge"


def test_formats_by_number() -> None:
    # Which comes first, the day or the month, is the computer's and not the file's.
    assert number_formats.built_in(14).show(46461) == Shown("2027-03-15")
    assert number_formats.built_in(44).show(3)[:2] == ("3.00", False)  # of which currency?
    assert number_formats.built_in(200).show(3) == Shown("3", False)
    assert of_code("yyyy-mm-dd").show(0, is_1904=True) == Shown("1904-01-01")


def test_formats_of_texts() -> None:
    assert of_code('"W-"@').show_text("a") == "W-a"
    assert of_code('0;0;0;@" x"').show_text("a") == "a x"
    assert of_code(";;;").show_text("a") == ""
    assert of_code("0.0").show_text("a") == "a"


@pytest.mark.parametrize(
    "code", ["0" * 390 + ".0", "%" * 390 + "0", "0" + "," * 390, "?/" + "9" * 390]
)
@pytest.mark.parametrize("value", [1e308, -1e-308, 0.0, 123.456])
def test_no_format_is_too_much(code: str, value: float) -> None:
    assert isinstance(of_code(code).show(value).text, str)

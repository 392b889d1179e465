"""Names of classes and experiments that could break a page."""

# The last four are unseen in limited training.
NAMES = [
    "001.Black_footed_Albatross",
    "002.Laysan_Albatross",
    "003.Sarunis_miceris",
    "004.Sarunis_caguvus",
    "NA",
    "<b>bold</b> &amp; <i>entities</i>",
    "accuracy",
    "Ünïcödé 鳥 🐦 \u2028 line",
    "<script>alert(1)</script>",
    "\"quotes\" 'single' \\back /slash/ `tick` ${x} {{ y }}",
    "</script><img src=x onerror=alert(2)>",
    "<!-- <script> ' onmouseover='alert(3)",
]
EXPERIMENTS = {"EPSHN_base": 0.15, "EPSHN_base+1dBN": 0.12, "ArcFace_base": 0.2}

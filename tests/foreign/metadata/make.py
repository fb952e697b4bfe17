"""Tables of captions as pandas writes them (pandas 3.1, pyarrow 26), in this folder.

Pictures are named as Windows, macOS and pandas spell them; the tests make the pictures.
"""

import pandas

rows = pandas.DataFrame(
    {
        "file_name": ["train/a.png", "train\\b.png", "caf\u00e9.png", "d.png"],
        "text": ["a cat, sitting", 'the word "hi"', "a caf\u00e9 in\ntwo lines", None],
        "text2": ["a cat", None, None, "dee"],
        "score": [5.5, 7.25, 3.0, None],
    }
)
rows.to_csv("with-index.csv")
rows.to_csv("excel-germany.csv", sep=";", index=False, encoding="utf-8-sig", lineterminator="\r\n")
rows.to_json("records.jsonl", orient="records", lines=True)
rows.to_json("powershell.jsonl", orient="records", lines=True, force_ascii=False)
with open("powershell.jsonl", encoding="utf-8") as file:
    text = file.read()
# PowerShell 5's ">" writes UTF-16 with a byte-order mark, and Windows' line ends.
with open("powershell.jsonl", "w", encoding="utf-16", newline="\r\n") as file:
    file.write(text)
rows.to_parquet("table.parquet", index=False)

import argparse
from dmlstudy.birds import write_archive
from dmlstudy.files import write_digest
p = argparse.ArgumentParser()
for o in ("classes","images-per-class","image-size","seed","threads"): p.add_argument("--"+o, type=int, required=True)
for o,d in (("first-class",0),("classes-per-genus",4)): p.add_argument("--"+o, type=int, default=d)
p.add_argument("--out"); p.add_argument("--log")
a = vars(p.parse_args()); a.pop("log"); out=a.pop("out")
write_archive(out, **a); write_digest(out)

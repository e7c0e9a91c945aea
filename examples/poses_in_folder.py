"""Print the people in every image of a folder, with the score and the head position of each.

python poses_in_folder.py photos/

It uses the package's demo networks, which were trained on synthetic people; for photographs, pass the files of real
networks to load_pipeline.
"""

import sys
from pathlib import Path

from rmpe_legacy.pose.demo_models import DE_TRANSFORM, demo_model
from rmpe_legacy.pose.pipeline import load_pipeline
from rmpe_legacy.pose.results import JOINTS

HEAD = JOINTS.index("head_top")


def main(folder: str) -> None:
    pipeline = load_pipeline(demo_model("detector"), demo_model("pose"), de_transform=DE_TRANSFORM)
    for path in sorted(Path(folder).glob("*.*")):
        persons = pipeline(path).nms.persons
        print(f"{path.name}: {len(persons)} people")
        for joints, scores in zip(persons.joints_xy, persons.scores, strict=True):
            x, y = joints[HEAD]
            print(f"  score {scores.mean():.2f}, head at ({x:.0f}, {y:.0f})")


if __name__ == "__main__":
    main(*sys.argv[1:])

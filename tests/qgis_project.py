"""Run by Debian's Python, where QGIS is: make a project of rasters, save it, open it anew, and say what is seen.

Usage: qgis_project.py PROJECT RASTER... ; prints one JSON object, by name of the layer.
"""

import json
import os
import sys
from pathlib import Path

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
from qgis.core import (
    QgsApplication,
    QgsMapRendererSequentialJob,
    QgsMapSettings,
    QgsProject,
    QgsRasterLayer,
)
from qgis.PyQt.QtCore import QSize


def seen(layer: QgsRasterLayer) -> dict:
    provider, renderer = layer.dataProvider(), layer.renderer()
    settings = QgsMapSettings()
    settings.setLayers([layer])
    settings.setDestinationCrs(layer.crs())
    settings.setExtent(layer.extent())
    settings.setOutputSize(QSize(layer.width(), layer.height()))
    job = QgsMapRendererSequentialJob(settings)
    job.start()
    job.waitForFinished()
    picture = job.renderedImage()
    corners = {"first": (20, 20), "prior": (60, 210), "last": (275, 295)}
    told = {
        "valid": layer.isValid(),
        "crs": layer.crs().authid(),
        "renderer": renderer.type(),
        "bands": [layer.bandName(number) for number in range(1, layer.bandCount() + 1)],
        "scale": provider.bandScale(1),
        "nodata": provider.sourceNoDataValue(1) if provider.sourceHasNoDataValue(1) else None,
        "colours": {name: picture.pixelColor(*at).name() for name, at in corners.items()},
    }
    if renderer.type() == "paletted":
        told["classes"] = {str(int(one.value)): [one.label, one.color.name()] for one in renderer.classes()}
    if renderer.type() == "singlebandpseudocolor":
        told["range"] = [renderer.classificationMin(), renderer.classificationMax()]
    if renderer.type() == "multibandcolor":
        told["rgb"] = [renderer.redBand(), renderer.greenBand(), renderer.blueBand()]
    return told


def main() -> None:
    project_file, *rasters = sys.argv[1:]
    app = QgsApplication([], False)
    app.initQgis()
    project = QgsProject.instance()
    for path in rasters:
        name = Path(path).stem
        project.addMapLayer(QgsRasterLayer(path, name))  # with the style beside it, as when it is dragged in
    saved = project.write(project_file)
    project.clear()
    opened = project.read(project_file)
    layers = {layer.name(): seen(layer) for layer in project.mapLayers().values()}
    print(json.dumps({"saved": saved, "opened": opened, "layers": layers}))
    sys.stdout.flush()
    project.clear()
    os._exit(0)  # Qt's own clean-up sometimes crashes without a display


main()

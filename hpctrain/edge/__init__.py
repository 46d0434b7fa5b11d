"""Turn a trained model into a small, fast and tested one, and run it on a device.

On the device (numpy, h5py and onnxruntime, scipy and astropy for survey files; no torch)::

    spectra_files.py  FITS and HDF5          ─▶ raw spectra, some hundred rows at a time
    prepare.py        raw spectra            ─▶ inputs of the network; its outputs ─▶ rows of a catalogue
    runtime.py        inputs                 ─▶ outputs, by ONNX Runtime
    forest.py         latents                ─▶ scores of an isolation forest
    infer.py          all of these, from file to catalogue
    bundle.py         the folder that holds the model; reference.py: spectra whose results the device compares

Where the model was trained (``hpctrain export``)::

    export.py         the whole export; request.py: its options and results; publish.py: the folder;
                      progress.py: lines and bars; sample.py: the spectra, never held-out ones to calibrate
    prune.py          rounds of importance.py, slim.py or sparsify.py, and finetune.py
    networks.py       module of a family ─▶ onnx_file.py ─▶ quantise.py (placement.py: in which layers)
    tensorrt.py       ONNX                   ─▶ engine, or the command that builds it
    see.py, gates.py  results before and after, in bins; latency.py, energy.py: time and energy of a spectrum
"""

"""Names of objects and links to their survey."""

import numpy as np

from hpctrain.kinds.spectra.objects import describe_object


def test_an_object_of_desi_links_to_its_spectrum_there():
    known = describe_object({"target_id": np.int64(39627835576420141), "survey_survey": np.bytes_(b"sv3")})
    assert known.name == "DESI 39627835576420141"
    assert known.links[0].address.endswith("/desi-spectrum/dr1/targetid39627835576420141")


def test_a_simulated_object_is_not_looked_for_in_the_sky():
    known = describe_object({"target_id": 5, "survey_ra": 10.0, "survey_dec": 3.0, "survey_is_unusual": np.bool_(0)})
    assert known.name == "simulated object 5"
    assert known.links == []

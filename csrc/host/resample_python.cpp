// resample() for Python.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include "resample.h"

namespace py = pybind11;

namespace {

template <typename T>
using Array = py::array_t<T, py::array::c_style>;

// The taps of one axis; none may lead out of the image.
rmpe::Taps taps(const char* axis, const Array<int32_t>& index, const Array<double>& weight, py::ssize_t size) {
  if (index.ndim() != 2 || weight.ndim() != 2 || index.shape(0) != weight.shape(0) ||
      index.shape(1) != weight.shape(1) || index.shape(1) == 0)
    throw py::value_error(std::string("resample: index and weight of the ") + axis + " must be tables of one shape");
  for (py::ssize_t i = 0; i < index.size(); ++i)
    if (index.data()[i] < 0 || index.data()[i] >= size)
      throw py::value_error(std::string("resample: a tap of the ") + axis + " leads out of the image, got " +
                            std::to_string(index.data()[i]) + " of " + std::to_string(size));
  return {static_cast<size_t>(index.shape(0)), static_cast<size_t>(index.shape(1)), index.data(), weight.data()};
}

template <typename T>
Array<T> resample(const Array<T>& image, const Array<int32_t>& row_index, const Array<double>& row_weight,
                  const Array<int32_t>& column_index, const Array<double>& column_weight, T low, T span, bool clip) {
  if (image.ndim() != 3) throw py::value_error("resample: image must be (h, w, channels)");
  const rmpe::Taps rows = taps("rows", row_index, row_weight, image.shape(0));
  const rmpe::Taps columns = taps("columns", column_index, column_weight, image.shape(1));
  Array<T> result({row_index.shape(0), column_index.shape(0), image.shape(2)});
  T* out = result.mutable_data();
  {
    py::gil_scoped_release released;
    rmpe::resample<T>(image.data(), static_cast<size_t>(image.shape(1)), static_cast<size_t>(image.shape(2)), rows,
                      columns, {low, span, clip}, out);
  }
  return result;
}

template <typename T>
void bind(py::module_& m) {
  m.def("resample", &resample<T>, py::arg("image").noconvert(), py::arg("row_index").noconvert(),
        py::arg("row_weight").noconvert(), py::arg("column_index").noconvert(), py::arg("column_weight").noconvert(),
        py::arg("low"), py::arg("span"), py::arg("clip"));
}

}  // namespace

void bind_resample(py::module_& m) {
  bind<float>(m);
  bind<double>(m);
}

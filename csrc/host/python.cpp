// Functions that are not tensor operators and work without torch: pose NMS, the text of its result files, resizing, and
// LevelDB's encoding.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <chrono>

#include "leveldb.h"
#include "number_text.h"
#include "pose_nms.h"

namespace py = pybind11;

void bind_resample(py::module_& m);  // resample_python.cpp

namespace {

template <typename T>
using Array = py::array_t<T, py::array::c_style>;

template <typename T>
void check_shape(const char* name, const Array<T>& array, std::initializer_list<py::ssize_t> want) {
  bool same = array.ndim() == static_cast<py::ssize_t>(want.size());
  py::ssize_t axis = 0;
  for (py::ssize_t size : want) {
    same = same && (size < 0 || array.shape(axis) == size);
    ++axis;
  }
  if (!same) throw py::value_error(std::string("pose_nms: ") + name + " has the wrong shape");
}

template <typename T>
Array<T> to_numpy(const std::vector<T>& values, std::vector<py::ssize_t> shape = {}) {
  if (shape.empty()) shape = {static_cast<py::ssize_t>(values.size())};
  return Array<T>(std::move(shape), values.data());
}

// Throws the exception of a signal handler (KeyboardInterrupt); checks ten times a second. Called without the GIL.
class Interrupted {
 public:
  void operator()() {
    const auto now = std::chrono::steady_clock::now();
    if (now - last_ < std::chrono::milliseconds(100)) return;
    last_ = now;
    const py::gil_scoped_acquire acquired;
    if (PyErr_CheckSignals() != 0) throw py::error_already_set();
  }

 private:
  std::chrono::steady_clock::time_point last_ = std::chrono::steady_clock::now();
};

// (picks, member_ends, members, image_ends, kept, joints, scores), as numpy arrays; see PoseGroups.
template <typename Score>
py::tuple pose_nms(const Array<double>& joints, const Array<Score>& scores, const Array<double>& ref,
                   const Array<int64_t>& ranges, const rmpe::PoseNmsRules& rules) {
  const py::ssize_t count = ref.size();
  check_shape("ref", ref, {count});
  check_shape("joints", joints, {count, rmpe::kJoints, 2});
  check_shape("scores", scores, {count, rmpe::kJoints});
  check_shape("ranges", ranges, {-1, 2});
  for (py::ssize_t i = 0; i < ranges.shape(0); ++i)
    if (ranges.at(i, 0) < 0 || ranges.at(i, 0) > ranges.at(i, 1) || ranges.at(i, 1) > count)
      throw py::value_error("pose_nms: range " + std::to_string(i) + " leads out of the proposals");
  rmpe::PoseGroups g;
  {
    py::gil_scoped_release released;
    g = rmpe::pose_nms(joints.data(), scores.data(), ref.data(), ranges.data(), static_cast<size_t>(ranges.shape(0)),
                       rules, Interrupted());
  }
  const auto groups = static_cast<py::ssize_t>(g.picks.size());
  return py::make_tuple(to_numpy(g.picks), to_numpy(g.member_ends), to_numpy(g.members), to_numpy(g.image_ends),
                        to_numpy(g.kept), to_numpy(g.joints, {groups, rmpe::kJoints, 2}),
                        to_numpy(g.scores, {groups, rmpe::kJoints}));
}

// One line per row: its head, then the values, separated by tabs, as Python 2 prints them.
template <typename T>
py::bytes format_rows(const std::vector<std::string>& heads, const Array<T>& values) {
  if (values.ndim() != 2 || values.shape(0) != static_cast<py::ssize_t>(heads.size()))
    throw py::value_error("format_rows: values must be a table with a row for each head");
  const auto columns = static_cast<size_t>(values.shape(1));
  std::string text;
  for (size_t row = 0; row < heads.size(); ++row) {
    text += heads[row];
    for (size_t i = 0; i < columns; ++i) {
      if (i) text += '\t';
      rmpe::append_number(text, values.data()[row * columns + i]);
    }
    text += '\n';
  }
  return text;
}

}  // namespace

PYBIND11_MODULE(_host, m) {
  m.doc() = "Loops that need no torch.";
  bind_resample(m);
  py::class_<rmpe::PoseNmsRules>(m, "PoseNmsRules")
      .def(py::init<double, double, double, double, double, bool, bool>(), py::kw_only(), py::arg("delta1"),
           py::arg("mu"), py::arg("delta2"), py::arg("gamma"), py::arg("person_score"), py::arg("drop_by_pick"),
           py::arg("plain_mean_if_weightless"));
  py::register_exception<rmpe::NoMatch>(m, "NoMatch");
  m.def("pose_nms", &pose_nms<double>, py::arg("joints"), py::arg("scores").noconvert(), py::arg("ref"),
        py::arg("ranges"), py::arg("rules"));
  m.def("pose_nms", &pose_nms<float>, py::arg("joints"), py::arg("scores").noconvert(), py::arg("ref"),
        py::arg("ranges"), py::arg("rules"));
  m.def("format_rows", &format_rows<int64_t>, py::arg("heads"), py::arg("values").noconvert());
  m.def("format_rows", &format_rows<double>, py::arg("heads"), py::arg("values").noconvert());
  m.def("crc32c", &rmpe::crc32c, py::arg("data"));
  m.def("snappy_decompress", &rmpe::snappy_decompress, py::arg("data"));
}

// A small network's loops for any processor, one value at a time.
#include "cpu/small_net.h"
#include "cpu/lanes_baseline.h"
#include "cpu/small_net_loops.h"

namespace rmpe {

void small_net_baseline(const SmallNet& net, const SmallNetImage& image, const StepRange& range) {
  compute_steps(net, image, range);
}

}  // namespace rmpe

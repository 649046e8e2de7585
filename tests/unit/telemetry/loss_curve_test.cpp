#include "runtime/telemetry/loss_curve.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <sstream>
#include <string>
#include <vector>

#include "runtime/telemetry/plot_scale.h"

namespace hearth {
namespace {

LossCurve FallingCurve(int64_t steps) {
  LossCurve curve{.title = "a <run> & \"more\"", .train = {}, .eval = {}};
  for (int64_t step = 1; step <= steps; ++step) {
    curve.train.push_back({step, 2.0 + 3.0 * std::exp(-static_cast<double>(step) / 50.0)});
    if (step % 100 == 0) curve.eval.push_back({step, 2.5});
  }
  return curve;
}

struct SvgPoint {
  double x;
  double y;
};

// The points of the first polyline of that colour.
std::vector<SvgPoint> Polyline(const std::string& svg, const std::string& color) {
  const size_t line = svg.find("<polyline fill=\"none\" stroke=\"" + color);
  if (line == std::string::npos) return {};
  const std::string attribute = "points=\"";
  const size_t begin = svg.find(attribute, line) + attribute.size();
  std::istringstream text(svg.substr(begin, svg.find('"', begin) - begin));
  std::vector<SvgPoint> points;
  char comma = 0;
  for (SvgPoint point; text >> point.x >> comma >> point.y;) points.push_back(point);
  return points;
}

std::vector<std::string> Lines(const std::string& text) {
  std::vector<std::string> lines;
  size_t begin = 0;
  for (size_t end; (end = text.find('\n', begin)) != std::string::npos; begin = end + 1) {
    lines.push_back(text.substr(begin, end - begin));
  }
  return lines;
}

int64_t CharactersOf(const std::string& utf8) {
  int64_t count = 0;
  for (const char c : utf8) count += (static_cast<unsigned char>(c) & 0xc0) != 0x80;
  return count;
}

TEST(PlotScaleTest, TicksAreRoundAndInside) {
  struct Case {
    double low, high;
    std::vector<std::string> labels;
  };
  for (const Case& c : std::vector<Case>{{0, 10, {"0", "2", "4", "6", "8", "10"}},
                                         {1.93, 5.02, {"2", "3", "4", "5"}},
                                         {0.1, 0.31, {"0.10", "0.15", "0.20", "0.25", "0.30"}},
                                         {-1, 1, {"-1.0", "-0.5", "0.0", "0.5", "1.0"}}}) {
    std::vector<std::string> labels;
    for (const AxisTick& tick : MakeAxis(c.low, c.high, 5).ticks) labels.push_back(tick.label);
    EXPECT_EQ(labels, c.labels) << c.low << " to " << c.high;
  }
}

TEST(PlotScaleTest, DegenerateAxesAreFinite) {
  for (const double value : {0.0, 2.0, -3.0, 1e12, 1e-12}) {
    const Axis axis = MakeAxis(value, value, 5);
    EXPECT_LT(axis.low, axis.high);
    EXPECT_TRUE(std::isfinite(axis.Position(value)));
    EXPECT_LT(axis.ticks.size(), 20u);
  }
  const Axis steps = MakeStepAxis(5, 5, 8);
  EXPECT_EQ(steps.Position(5), 0.0);
}

TEST(LossSvgTest, TheTrainingLineFallsAcrossTheWholePicture) {
  const std::string svg = LossCurveSvg(FallingCurve(500));
  const auto points = Polyline(svg, "#b9d0ea");
  ASSERT_EQ(points.size(), 500u);
  EXPECT_NEAR(points.front().x, 70, 0.1);
  EXPECT_NEAR(points.back().x, 780, 0.1);
  for (size_t i = 1; i < points.size(); ++i) {
    EXPECT_GE(points[i].x, points[i - 1].x);
    EXPECT_GE(points[i].y, points[i - 1].y);  // y grows downwards
  }
  EXPECT_EQ(Polyline(svg, "#d1571b").size(), 5u);
  EXPECT_NE(svg.find("a &lt;run&gt; &amp; &quot;more&quot;"), std::string::npos);
  EXPECT_NE(svg.find("evaluation, last 2.5000"), std::string::npos);
}

TEST(LossSvgTest, LongRunsAreThinned) {
  const auto points = Polyline(LossCurveSvg(FallingCurve(100'000)), "#b9d0ea");
  EXPECT_LE(points.size(), 1400u);
  EXPECT_GE(points.size(), 700u);
  EXPECT_NEAR(points.back().x, 780, 0.1);
}

TEST(LossSvgTest, OddCurvesStayPictures) {
  const double nan = std::nan("");
  const double infinity = std::numeric_limits<double>::infinity();
  for (const LossCurve& curve :
       {LossCurve{}, LossCurve{.title = "", .train = {{1, nan}}, .eval = {}},
        LossCurve{.title = "", .train = {{1, 2.0}}, .eval = {{0, infinity}}},
        LossCurve{.title = "", .train = {{1, 2.0}, {2, nan}, {3, 2.0}}, .eval = {}}}) {
    const std::string svg = LossCurveSvg(curve);
    EXPECT_EQ(svg.find("nan"), std::string::npos);
    EXPECT_EQ(svg.find("inf"), std::string::npos);
    EXPECT_EQ(svg.rfind("</svg>\n"), svg.size() - 7);
  }
}

TEST(LossTextTest, HasTheSizeAskedForAndFalls) {
  const auto lines = Lines(LossCurveText(FallingCurve(400), 70, 14));
  ASSERT_EQ(lines.size(), 14u);
  for (const std::string& line : lines) EXPECT_EQ(CharactersOf(line), 70) << line;
  EXPECT_EQ(lines[0].find("o"), std::string::npos);
  // The curve starts at the top left and ends at the bottom right.
  EXPECT_EQ(lines[0].substr(0, 10), "     5 ┤");
  EXPECT_NE(lines[0][10], ' ');
  EXPECT_EQ(lines[0].back(), ' ');
  EXPECT_NE(lines[11].back(), ' ');
  EXPECT_NE(lines.back().find("400"), std::string::npos);
  size_t evaluations = 0;
  for (const std::string& line : lines) {
    for (const char c : line) evaluations += c == 'o';
  }
  EXPECT_EQ(evaluations, 4u);
}

TEST(LossTextTest, NothingToDrawOrNoRoomIsEmpty) {
  EXPECT_EQ(LossCurveText({}, 70, 14), "");
  EXPECT_EQ(LossCurveText(FallingCurve(10), 20, 14), "");
  EXPECT_EQ(LossCurveText(FallingCurve(10), 70, 3), "");
  EXPECT_NE(LossCurveText(FallingCurve(1), 24, 5), "");
}

}  // namespace
}  // namespace hearth

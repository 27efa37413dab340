// Charts from data: <div data-chart="id of a json_script block">. The block holds {kind, unit, stacked, labels, series: [{name, values}]}.
// Money comes as integer nano-dollars and is divided only here, to be drawn.
(() => {
  const drawn = new Map();
  const css = (name) => resolved(`var(--gh-${name})`);

  // light-dark() in a custom property is not computed until it colours something.
  function resolved(colour) {
    const probe = document.createElement("i");
    probe.style.color = colour;
    document.body.append(probe);
    const value = getComputedStyle(probe).color;
    probe.remove();
    return value;
  }

  const whole = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });
  const short = new Intl.NumberFormat("en-US", { notation: "compact", maximumFractionDigits: 1 });
  const dollars = (digits) => new Intl.NumberFormat("en-US", { style: "currency", currency: "USD", minimumFractionDigits: digits, maximumFractionDigits: digits });
  const TICKS = 4;
  const still = window.matchMedia("(prefers-reduced-motion: reduce)");

  // The step between two marks of the axis, as ECharts rounds it: 1, 2, 3 or 5 times a power of ten.
  function stepOf(most) {
    const power = 10 ** Math.floor(Math.log10(most / TICKS));
    const share = most / TICKS / power;
    return power * (share < 1.5 ? 1 : share < 2.5 ? 2 : share < 4 ? 3 : share < 7 ? 5 : 10);
  }

  // As many decimals as tell two marks apart, and two at least where there are cents.
  function decimalsFor(most) {
    const step = most > 0 ? stepOf(most) : 1;
    return step >= 1 ? 0 : Math.max(2, Math.ceil(-Math.log10(step) - 1e-9));
  }

  // Two digits of an amount below a cent, four decimals of one below a dollar.
  const decimalsOf = (v) => (v === 0 || v >= 1 ? 2 : Math.min(9, Math.max(4, 1 - Math.floor(Math.log10(v)))));

  // `axis` gets a mark and the greatest value drawn.
  const UNITS = {
    usd: { scale: 1e-9, axis: (v, most) => (v >= 10000 ? `$${short.format(v)}` : dollars(v === 0 ? 0 : decimalsFor(most)).format(v)), text: (v) => dollars(decimalsOf(v)).format(v) },
    count: { scale: 1, whole: true, axis: (v) => short.format(v), text: (v) => whole.format(v) },
    tokens: { scale: 1, whole: true, axis: (v) => short.format(v), text: (v) => short.format(v) },
    ms: { scale: 1, axis: (v) => (v >= 1000 ? `${v / 1000} s` : `${v} ms`), text: (v) => (v >= 1000 ? `${(v / 1000).toFixed(2)} s` : `${whole.format(v)} ms`) },
  };

  const escape = (text) => Object.assign(document.createElement("i"), { textContent: text }).innerHTML;

  function tooltip(unit, stacked) {
    return (points) => {
      const row = (marker, name, value, weight = 400) =>
        `<div style="display:flex;gap:1.5rem;justify-content:space-between;font-weight:${weight}"><span>${marker}${escape(name)}</span><span style="font-variant-numeric:tabular-nums">${value}</span></div>`;
      const rows = points.filter((p) => p.value).reverse().map((p) => row(p.marker, p.seriesName, unit.text(p.value)));
      const sum = points.reduce((total, p) => total + (p.value || 0), 0);
      if (stacked && points.length > 1) rows.push(row("", "Total", unit.text(sum), 600));
      return `<div style="font-weight:600;margin-bottom:4px">${escape(points[0].axisValueLabel)}</div>${rows.join("") || "nothing"}`;
    };
  }

  function seriesOf(chart, unit) {
    const stacked = isStacked(chart);
    return chart.series.map((series, index) => ({
      name: series.name,
      type: chart.kind === "bar" ? "bar" : "line",
      stack: stacked ? "all" : undefined,
      data: series.values.map((value) => (value === null ? null : value * unit.scale)),
      color: css(`chart-${series.colour ?? (index % 8) + 1}`),
      barMaxWidth: 28,
      barCategoryGap: "32%",
      showSymbol: false,
      lineStyle: { width: chart.kind === "area" ? 1 : 2 },
      areaStyle: chart.kind === "area" ? { opacity: 0.45 } : undefined,
      itemStyle: chart.kind === "bar" ? { borderColor: css("surface"), borderWidth: chart.labels.length > 60 ? 0 : 0.5 } : undefined,
      emphasis: { focus: "series", blurScope: "coordinateSystem" },
    }));
  }

  const isStacked = (chart) => chart.stacked ?? chart.kind !== "line";

  function mostOf(chart, unit) {
    const columns = chart.labels.map((_, index) => chart.series.map((series) => series.values[index] || 0));
    return unit.scale * Math.max(0, ...columns.map((values) => (isStacked(chart) ? values.reduce((sum, v) => sum + v, 0) : Math.max(0, ...values))));
  }

  function options(chart) {
    const unit = UNITS[chart.unit];
    const most = mostOf(chart, unit);
    const ink = css("ink-2");
    const line = css("line");
    const many = chart.series.length > 1;
    return {
      animation: !still.matches,
      animationDuration: 250,
      aria: { enabled: false },
      textStyle: { fontFamily: getComputedStyle(document.body).fontFamily },
      grid: { left: 4, right: 8, top: 12, bottom: many ? 36 : 4, containLabel: true },
      legend: many ? { type: "scroll", bottom: 0, left: 0, icon: "roundRect", itemWidth: 9, itemHeight: 9, itemGap: 16, textStyle: { color: ink, fontSize: 12 }, pageTextStyle: { color: ink }, pageIconColor: ink } : undefined,
      tooltip: {
        trigger: "axis",
        axisPointer: { type: chart.kind === "bar" ? "shadow" : "line", shadowStyle: { color: css("ink"), opacity: 0.05 }, lineStyle: { color: line } },
        backgroundColor: css("raised"),
        borderColor: line,
        textStyle: { color: css("ink"), fontSize: 12 },
        confine: true,
        formatter: tooltip(unit, chart.kind !== "line"),
      },
      xAxis: { type: "category", data: chart.labels, boundaryGap: chart.kind === "bar", axisTick: { show: false }, axisLine: { lineStyle: { color: line } }, axisLabel: { color: ink, fontSize: 11.5, hideOverlap: true, margin: 10 } },
      yAxis: { type: "value", splitNumber: TICKS, minInterval: unit.whole ? 1 : undefined, axisLabel: { color: ink, fontSize: 11.5, formatter: (v) => unit.axis(v, most) }, splitLine: { lineStyle: { color: line } } },
      series: seriesOf(chart, unit),
    };
  }

  function draw() {
    for (const [element, picture] of drawn) {
      if (element.isConnected) continue;
      picture.dispose();
      drawn.delete(element);
    }
    for (const element of document.querySelectorAll("[data-chart]")) {
      if (!element.clientWidth) continue; // shown as a table at the moment
      const chart = JSON.parse(document.getElementById(element.dataset.chart).textContent);
      if (!drawn.has(element)) {
        drawn.set(element, window.echarts.init(element, null, { renderer: "svg" }));
        sizes.observe(element);
      }
      drawn.get(element).setOption(options(chart), true);
      drawn.get(element).resize();
    }
  }

  const sizes = new ResizeObserver((entries) => entries.forEach(({ target }) => target.clientWidth && drawn.get(target)?.resize()));
  document.addEventListener("gatehouse:theme", draw);
  document.addEventListener("gatehouse:charts", draw);
  draw();
})();

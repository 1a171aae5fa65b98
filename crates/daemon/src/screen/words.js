// The screen's words, in three languages. A word that is missing is shown in English.

const en = {
  events_a_second: "events / s", behind: "reading delay", paid_orders: "paid orders", revenue: "revenue",
  connecting: "Connecting", connecting_detail: "waiting for the first picture",
  live: "Live", live_detail: "last event {age} ago",
  quiet: "No new events", quiet_detail: "for {age}: check the sources",
  lost: "Connection lost", lost_detail: "for {age}: what you see is old",
  starting: "Not ready", share: "{held} of {all} partitions are here; /api/v1/partitions tells where the rest is", shop: "Shop {shop}",
  language: "Language",
  campaign_choice: "Campaign",
  door_title: "This screen is locked", door_about: "Paste the token of this installation. It stays in this tab and is forgotten when you close it.",
  token: "Token", enter: "Open", wrong_token: "This token was not accepted.",
  sales_title: "Paid orders a minute", planned: "planned", paid: "paid", now: "now",
  level: "Level against plan", level_good: "within its limits", level_none: "no rule watches it",
  level_warn: "a warning: beyond a limit", level_page: "beyond a limit that pages", level_quiet: "too early to judge", level_unknown: "no plan told",
  last_minute: "last minute", of_plan: "of {planned} planned", oddness: "surprise", campaign_orders: "orders in all",
  chart_label: "Paid orders a minute against the plan. Last minute: {paid} paid, {planned} planned.",
  chart_empty: "No campaign is planned. Send a plan event, or name a plan file under [plans] in fenghuo.toml; the picture begins with its first minute.",
  alerts_title: "Open alerts", page: "Page", warn: "Warning",
  firing: "firing", recovering: "recovering", unknown: "cannot be told", resolved: "resolved", pending: "pending", inactive: "inactive",
  alerts_empty: "No open alerts. All signals that can be judged are within their limits.",
  alerts_empty_stale: "No alert was open when the connection broke. That may have changed.",
  more: "and {count} more of these",
  since: "since {time}", peak: "peak {value}", playbook: "playbook", owner: "owner", nobody: "none named",
  delivered: "delivered", undelivered: "NOT DELIVERED", sending: "sending", unsent: "not paged",
  past_title: "Resolved", past_empty: "Resolved alerts will be listed here.",
  stock_title: "Stock and price", worst_first: "the worst first",
  stock_empty: "No stock is known yet. Send inventory events with absolute levels for the skus that sell.",
  hours: "{value} h", minutes: "{value} min", sold_out: "sold out", long: "no end in sight",
  not_told: "not told", too_few: "too few",
  signals_title: "Further signals", unjudged: "{count} cannot be judged",
  signals_empty: "Nothing can be judged yet. Courier and feedback events fill this, and signals of your own.",
  of: "of {n}",
  new_page: "New page: {summary}",
  conditions_title: "Fenghuo itself", utc_assumed: "UTC, no time zone is known",
  is_clock_behind: "the clock is behind", is_clock_ahead: "the clock is ahead, or events are old", is_clock_stepped: "the clock was set",
  is_clock_broker: "the brokers' clock differs", is_disk_full: "the disk is full", is_map_full: "a map is full",
  is_intake_refusing: "many events are refused", is_channel_stuck: "a channel is stuck", is_channel_behind: "pages wait for a channel",
  is_pages_undelivered: "pages reached nobody",
  is_set_superseded: "other rules are in force than in its files", is_files_folder: "the exports folder is out of reach", is_files_left: "files are not read", is_files_slow: "a file takes long", is_log_lost: "the log file is gone",
};

const hans = {
  events_a_second: "事件 / 秒", behind: "读取延迟", paid_orders: "已付订单", revenue: "成交额",
  connecting: "连接中", connecting_detail: "等待第一帧画面",
  live: "实时", live_detail: "{age}前有新事件",
  quiet: "没有新事件", quiet_detail: "已 {age}，请检查数据源",
  lost: "连接已断开", lost_detail: "已 {age}，画面是旧的",
  starting: "未就绪", share: "此处有 {all} 个分区中的 {held} 个，其余见 /api/v1/partitions", shop: "店铺 {shop}",
  language: "语言",
  campaign_choice: "活动",
  door_title: "此屏幕已锁定", door_about: "请粘贴本系统的令牌。令牌只保存在此标签页，关闭后即清除。",
  token: "令牌", enter: "打开", wrong_token: "令牌未被接受。",
  sales_title: "每分钟已付订单", planned: "计划", paid: "实付", now: "现在",
  level: "相对计划的水平", level_good: "在限值以内", level_none: "没有规则监视",
  level_warn: "警告：超出限值", level_page: "超出紧急限值", level_quiet: "尚不足以判断", level_unknown: "没有计划",
  last_minute: "上一分钟", of_plan: "计划 {planned}", oddness: "异常度", campaign_orders: "累计订单",
  chart_label: "每分钟已付订单与计划。上一分钟：实付 {paid}，计划 {planned}。",
  chart_empty: "没有活动计划。请发送 plan 事件，或在 fenghuo.toml 的 [plans] 中指定计划文件；从活动的第一分钟起显示。",
  alerts_title: "未解除告警", page: "紧急", warn: "警告",
  firing: "告警中", recovering: "恢复中", unknown: "无法判断", resolved: "已解除", pending: "待定", inactive: "无",
  alerts_empty: "没有未解除的告警。可判断的信号均在限值以内。",
  alerts_empty_stale: "断开时没有未解除的告警，现在可能已有变化。",
  more: "另有 {count} 条同类",
  since: "{time} 起", peak: "峰值 {value}", playbook: "预案", owner: "负责", nobody: "未指定",
  delivered: "已送达", undelivered: "未送达", sending: "发送中", unsent: "未呼叫",
  past_title: "已解除", past_empty: "解除后的告警会列在这里。",
  stock_title: "库存与价格", worst_first: "最差在前",
  stock_empty: "尚无库存数据。请为在售商品发送带绝对数量的库存事件。",
  hours: "{value} 小时", minutes: "{value} 分钟", sold_out: "售罄", long: "暂无断货之虞",
  not_told: "未知", too_few: "样本不足",
  signals_title: "其他信号", unjudged: "{count} 个无法判断",
  signals_empty: "尚无可判断的信号。物流与评价事件以及自定义信号会填充这里。",
  of: "共 {n}",
  new_page: "新的紧急告警：{summary}",
  conditions_title: "烽火自身", utc_assumed: "UTC，时区未知",
  is_clock_behind: "时钟偏慢", is_clock_ahead: "时钟偏快，或事件是旧的", is_clock_stepped: "时钟被调整",
  is_clock_broker: "broker 时钟不一致", is_disk_full: "磁盘已满", is_map_full: "表已满",
  is_intake_refusing: "大量事件被拒收", is_channel_stuck: "通知渠道卡住", is_channel_behind: "告警在排队等待渠道",
  is_pages_undelivered: "有告警未能送达",
  is_set_superseded: "生效规则与本机文件不同", is_files_folder: "导出文件夹无法读取", is_files_left: "有文件未读取", is_files_slow: "文件读取过久", is_log_lost: "日志文件已丢失",
};

const hant = {
  events_a_second: "事件 / 秒", behind: "讀取延遲", paid_orders: "已付訂單", revenue: "成交額",
  connecting: "連線中", connecting_detail: "等待第一個畫面",
  live: "即時", live_detail: "{age}前有新事件",
  quiet: "沒有新事件", quiet_detail: "已 {age}，請檢查資料來源",
  lost: "連線已中斷", lost_detail: "已 {age}，畫面是舊的",
  starting: "未就緒", share: "此處有 {all} 個分區中的 {held} 個，其餘見 /api/v1/partitions", shop: "店鋪 {shop}",
  language: "語言",
  campaign_choice: "活動",
  door_title: "此畫面已鎖定", door_about: "請貼上本系統的權杖。權杖只留在此分頁，關閉後即清除。",
  token: "權杖", enter: "開啟", wrong_token: "權杖未被接受。",
  sales_title: "每分鐘已付訂單", planned: "計畫", paid: "實付", now: "現在",
  level: "相對計畫的水準", level_good: "在限值以內", level_none: "沒有規則監視",
  level_warn: "警告：超出限值", level_page: "超出緊急限值", level_quiet: "尚不足以判斷", level_unknown: "沒有計畫",
  last_minute: "上一分鐘", of_plan: "計畫 {planned}", oddness: "異常度", campaign_orders: "累計訂單",
  chart_label: "每分鐘已付訂單與計畫。上一分鐘：實付 {paid}，計畫 {planned}。",
  chart_empty: "沒有活動計畫。請傳送 plan 事件，或在 fenghuo.toml 的 [plans] 指定計畫檔；從活動的第一分鐘起顯示。",
  alerts_title: "未解除警報", page: "緊急", warn: "警告",
  firing: "警報中", recovering: "恢復中", unknown: "無法判斷", resolved: "已解除", pending: "待定", inactive: "無",
  alerts_empty: "沒有未解除的警報。可判斷的訊號均在限值以內。",
  alerts_empty_stale: "中斷時沒有未解除的警報，現在可能已有變化。",
  more: "另有 {count} 則同類",
  since: "{time} 起", peak: "峰值 {value}", playbook: "預案", owner: "負責", nobody: "未指定",
  delivered: "已送達", undelivered: "未送達", sending: "傳送中", unsent: "未呼叫",
  past_title: "已解除", past_empty: "解除後的警報會列在這裡。",
  stock_title: "庫存與價格", worst_first: "最差在前",
  stock_empty: "尚無庫存資料。請為在售商品傳送帶絕對數量的庫存事件。",
  hours: "{value} 小時", minutes: "{value} 分鐘", sold_out: "售罄", long: "暫無缺貨之虞",
  not_told: "未知", too_few: "樣本不足",
  signals_title: "其他訊號", unjudged: "{count} 個無法判斷",
  signals_empty: "尚無可判斷的訊號。物流與評價事件以及自訂訊號會填入這裡。",
  of: "共 {n}",
  new_page: "新的緊急警報：{summary}",
  conditions_title: "烽火自身", utc_assumed: "UTC，時區未知",
  is_clock_behind: "時鐘偏慢", is_clock_ahead: "時鐘偏快，或事件是舊的", is_clock_stepped: "時鐘被調整",
  is_clock_broker: "broker 時鐘不一致", is_disk_full: "磁碟已滿", is_map_full: "表已滿",
  is_intake_refusing: "大量事件被拒收", is_channel_stuck: "通知管道卡住", is_channel_behind: "告警在排隊等待管道",
  is_pages_undelivered: "有告警未能送達",
  is_set_superseded: "生效規則與本機檔案不同", is_files_folder: "匯出資料夾無法讀取", is_files_left: "有檔案未讀取", is_files_slow: "檔案讀取過久", is_log_lost: "日誌檔案已遺失",
};

const languages = { en, "zh-Hans": hans, "zh-Hant": hant };

/** The language to begin with: the stored one, else the browser's. */
export function preferred(stored, browser) {
  if (stored in languages) return stored;
  const tag = (browser || "en").toLowerCase();
  if (!tag.startsWith("zh")) return "en";
  return /hant|tw|hk|mo/.test(tag) ? "zh-Hant" : "zh-Hans";
}

let current = "en";

/** Says everything in this language from now on. */
export function speak(language) {
  current = language in languages ? language : "en";
}

/** The language that is spoken. */
export function language() {
  return current;
}

/** A word, with its {gaps} filled. */
export function word(key, gaps = {}) {
  const text = languages[current][key] ?? en[key] ?? key;
  return text.replace(/\{(\w+)\}/g, (gap, name) => gaps[name] ?? gap);
}

const events = new EventSource("/api/events");
events.addEventListener("status", (event) => {
  document.getElementById("headline").textContent = JSON.parse(event.data).headline;
});

"""Pictures of explanations and the HTML report; needs the extra `report`."""
